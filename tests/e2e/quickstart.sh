#!/usr/bin/env bash
# The front door works: scripts/quickstart ends well, with a rank killed on the way, and leaves a verified model.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
"$RMJOB_SOURCE/scripts/quickstart" --dir "$dir" 2>&1 | tee "$dir/screen.txt"
grep -q "kill -9 of rank" "$dir/screen.txt" || { echo "no rank was killed"; exit 1; }
grep -q "GATE PASSED quickstart-rm" "$dir/screen.txt" || { echo "the gate did not pass"; exit 1; }
[ -f "$dir/pulled/model.safetensors" ] || { echo "no model was pulled"; exit 1; }
