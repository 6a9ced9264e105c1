#!/usr/bin/env bash
# A step of ours against one of PyTorch, in turns: `step_time.sh THREADS TRAIN.jsonl.gz`.
# The last line on stdout is one JSON object with the ratios; all else goes to stderr.
set -euo pipefail
threads=$1 data=$(realpath "$2")
cd "$(dirname "$0")/../../.."
here=infra/bench/training
venv=infra/bench/.venv/training
work=target/bench-training
mkdir -p "$work"

if [[ -n ${MILLRACE_BENCH_PYTHON:-} ]]; then
  python=$MILLRACE_BENCH_PYTHON
else
  python=$venv/bin/python
  if ! cmp -s "$here/requirements.txt" "$venv/requirements.txt"; then
    rm -rf "$venv"
    python3 -m venv "$venv" >&2
    "$venv/bin/pip" install --quiet --requirement "$here/requirements.txt" >&2
    cp "$here/requirements.txt" "$venv/requirements.txt"
  fi
fi
binary=${MILLRACE_BENCH_TRAINING:-}
if [[ -z $binary ]]; then
  cargo build --release --package millrace-training --example bench_training >&2
  binary=${CARGO_TARGET_DIR:-target}/release/examples/bench_training
fi
model=${MILLRACE_MODELS:-${XDG_CACHE_HOME:-$HOME/.cache}/millrace/models}/all-MiniLM-L6-v2
exec "$python" "$here/step_time.py" "$binary" "$model" "$threads" "$data" "$work/batches.json"
