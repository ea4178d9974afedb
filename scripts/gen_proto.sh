#!/usr/bin/env bash
# Generates the Python code beside each .proto. "--check" compares instead, and fails where a file is stale.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
out=proto
if [ "${1:-}" = --check ]; then
  out=$(mktemp -d)
  trap 'rm -rf "$out"' EXIT
fi
mapfile -t sources < <(cd proto && find pagi -name '*.proto' | sort)
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -I proto \
  --python_out="$out" --mypy_out="quiet:$out" "${sources[@]}"
mapfile -t services < <(cd proto && grep -l '^service ' "${sources[@]}")
PATH="$(dirname "$python"):$PATH" "$python" -m grpc_tools.protoc -I proto \
  --grpc_python_out="$out" --mypy_grpc_out="quiet,only_async:$out" "${services[@]}"
if [ "$out" != proto ]; then
  stale=0
  while IFS= read -r file; do
    cmp -s "$out/$file" "proto/$file" || { echo "stale: proto/$file (run: make proto)" >&2; stale=1; }
  done < <(cd "$out" && find . -name '*_pb2*' -printf '%P\n' | sort)
  exit "$stale"
fi
