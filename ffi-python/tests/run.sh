#!/usr/bin/env bash
# Installs the package into a clean virtual environment, as `pip install` does, and runs the tests
# against what was installed, the stub included.
set -euo pipefail
here="$(cd "$(dirname "$0")" && pwd)"
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT

"${PYTHON:-python3}" -m venv "$work/venv"
python="$work/venv/bin/python"
"$python" -m pip install --quiet --disable-pip-version-check "$here/.."
cd "$here"
"$python" -B -m unittest test_protocol test_proofs test_sequences test_traces
"$python" -m pip install --quiet --disable-pip-version-check mypy==2.4.1
cd "$work"
"$python" -m mypy.stubtest tensorpow --allowlist "$here/stubtest.allow"
