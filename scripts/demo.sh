#!/bin/sh
# Start everything in a data directory of its own, ask one question, show who answered, stop everything.
set -eu
PYBRIX=${PYBRIX:-pybrix}
QUESTION=${QUESTION:-"What is the capital of France? Answer in one sentence."}
DATA=${DATA:-$PWD/.pybrix/demo}

trap '"$PYBRIX" down --data-dir "$DATA" --quiet || true' EXIT
trap 'exit 130' INT TERM
"$PYBRIX" up --model smollm2 --data-dir "$DATA" --port 0 --detach
printf '\n> %s\n' "$QUESTION"
"$PYBRIX" chat --data-dir "$DATA" "$QUESTION"
trap - EXIT
"$PYBRIX" down --data-dir "$DATA"
