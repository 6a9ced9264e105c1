#!/usr/bin/env bash
# The model server against the bare encoder and a FastAPI server: `run.sh [SECONDS_EACH]`.
# The last line on stdout is one JSON object with the ratios; all else goes to stderr.
# MILLRACE_BIN and BENCH_ENCODER name other binaries; SKIP_PEER=1 leaves the FastAPI server out; ROUNDS=1 is quick.
set -euo pipefail
cd "$(dirname "$0")/../../.."
here=infra/bench/model-server
venv=infra/bench/.venv/model-server
work=target/bench-model-server
data=${MILLRACE_SHARED_DATA:-../shared/data}
binaries=${CARGO_TARGET_DIR:-target}/release
mkdir -p "$work"

corpora=(models/tests/reference/texts.jsonl)
if [[ -f $data/scifact/corpus.jsonl.gz && -f $data/cranfield/corpus.jsonl.gz ]]; then
  corpora=("$data/scifact/corpus.jsonl.gz" "$data/cranfield/corpus.jsonl.gz")
fi
python=python3
if [[ -z ${SKIP_PEER:-} ]]; then
  if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$venv/requirements.txt"
  fi
  python=$venv/bin/python
fi
python3 infra/bench/encoder/texts.py "$work/texts.jsonl" 1024 "${corpora[@]}"
exec "$python" "$here/load.py" \
  --millrace "${MILLRACE_BIN:-$binaries/millrace}" \
  --bench-encoder "${BENCH_ENCODER:-$binaries/examples/bench_encoder}" \
  --texts "$work/texts.jsonl" --seconds "${1:-12}" --rounds "${ROUNDS:-5}" ${SKIP_PEER:+--skip-peer}
