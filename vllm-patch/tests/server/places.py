"""Where the stock vLLM, the models and the two wheels are: the environment, or the tools beside this folder."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

PATCH_DIR = Path(__file__).resolve().parents[2]
ROOT = PATCH_DIR.parent


def _last_line(command: list[str | Path]) -> Path:
    done = subprocess.run([str(c) for c in command], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip().splitlines()[-1])


@functools.cache
def vllm_version() -> str:
    """The release under test (`VLLM_TEST_VERSION`)."""
    return os.environ.get("VLLM_TEST_VERSION") or "0.32.0"


@functools.cache
def stock_venv() -> Path:
    """The environment with vLLM and nothing of ours (`VLLM_TEST_VENV`, else the installer)."""
    given = os.environ.get("VLLM_TEST_VENV")
    return Path(given) if given else _last_line([PATCH_DIR / "environment" / "install-vllm", vllm_version()])


@functools.cache
def small_model() -> Path:
    """SmolLM2-135M-Instruct."""
    return _last_line([PATCH_DIR / "environment" / "hf-model"])


@functools.cache
def tiny_model() -> Path:
    """Random weights with the vocabulary of the small model: ten times as fast."""
    return _last_line([PATCH_DIR / "environment" / "hf-model", "--tiny"])


@functools.cache
def wheels() -> tuple[Path, Path]:
    """The two wheels, built from this repository (or in `TENSORPOW_WHEELS`)."""
    given = os.environ.get("TENSORPOW_WHEELS")
    folder = Path(given) if given else _built_wheels()
    return _newest(folder, "tensorpow-*.whl"), _newest(folder, "tensorpow_vllm-*.whl")


def _built_wheels() -> Path:
    folder = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "wheels"
    # the plugin first: if it does not build, the library need not
    for source in (PATCH_DIR, ROOT / "ffi-python"):
        command: list[str | Path] = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps"]
        command += ["-w", folder]
        if source.name == "ffi-python":
            command.append("--config-settings=build-args=--compatibility pypi")
        subprocess.run([str(c) for c in [*command, source]], check=True, stdout=sys.stderr)
    return folder


def _newest(folder: Path, pattern: str) -> Path:
    found = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    if not found:
        raise FileNotFoundError(f"no {pattern} in {folder}")
    return found[-1]
