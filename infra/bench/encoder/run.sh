#!/usr/bin/env bash
# The encoder against ONNX Runtime and sentence-transformers: `run.sh [ROUNDS]`.
# The last line on stdout is one JSON object with the ratios; all else goes to stderr.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=infra/bench/encoder
venv=infra/bench/.venv/encoder
work=target/bench-encoder
data=${MILLRACE_SHARED_DATA:-../shared/data}
mkdir -p "$work"

# Real corpora where they are; the texts of the encoder's own tests where they are not.
corpora=(models/tests/reference/texts.jsonl)
if [[ -f $data/scifact/corpus.jsonl.gz && -f $data/cranfield/corpus.jsonl.gz ]]; then
  corpora=("$data/scifact/corpus.jsonl.gz" "$data/cranfield/corpus.jsonl.gz")
fi

if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
  rm -rf "$venv" "$work"/*.onnx*
  python3 -m venv "$venv" >&2
  "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt" >&2
  cp "$here/requirements.txt" "$venv/requirements.txt"
fi
cargo build --release --package millrace-models --examples >&2
binaries=${CARGO_TARGET_DIR:-target}/release/examples
model=$("$binaries/pull_model" all-MiniLM-L6-v2)
"$venv/bin/python" "$here/texts.py" "$work/texts.jsonl" 1024 "${corpora[@]}"
"$venv/bin/python" "$here/compare.py" "$binaries/bench_encoder" "$model" "$work/texts.jsonl" "$work" "${1:-3}"
