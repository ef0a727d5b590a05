#!/usr/bin/env bash
# Installs a wheel of the package (the first argument) into a clean virtual environment where
# nothing can be compiled, and runs the tests against what was installed, the stub included.
set -euo pipefail
wheel="$(realpath "$1")"
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
python="$work/venv/bin/python"
pip=("$python" -m pip install --quiet --disable-pip-version-check --only-binary :all:)
"${pip[@]}" "$wheel"
cd "$here"
"$python" -B -m unittest test_protocol test_proofs test_sequences test_traces
"${pip[@]}" mypy==2.4.1
cd "$work"
"$python" -m mypy.stubtest tensorpow --allowlist "$here/stubtest.allow"
