#!/usr/bin/env bash
# Installs the two wheels (the arguments) into a clean virtual environment where nothing can be
# compiled, and runs the plugin's tests that need neither vLLM nor torch.
set -euo pipefail
wheels=()
for wheel in "$@"; do wheels+=("$(realpath "$wheel")"); done
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check --only-binary :all: "${wheels[@]}"
cd "$here"
PYTHONPATH="$here:$here/../../../ffi-python/tests" "$python" -B -m unittest discover --start-directory "$here"
