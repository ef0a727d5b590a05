"""The command lines of `install-vllm`, `hf-model` and `lock`."""

from __future__ import annotations

import argparse
import subprocess
from collections.abc import Callable
from pathlib import Path

from llama_build.console import BuildError, note

from .models import SMALL, TINY, make_model, model_path
from .releases import DEFAULT, RELEASES, release
from .venv import is_complete, make_venv, venv_path

EPILOG = """\
environment:
  TENSORPOW_CACHE    cache folder (default: tensorpow in the user's cache folder)
  CC                 compiler of the stub libraries (default: gcc)
The last line of standard output is the path."""
VERSIONS = ", ".join(RELEASES)


def install() -> int:
    return _guarded(_install)


def model() -> int:
    return _guarded(_model)


def lock() -> int:
    return _guarded(_lock)


def _guarded(command: Callable[[], Path]) -> int:
    try:
        print(command())
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        note(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        note("interrupted; the next run starts over")
        return 130
    return 0


def _install() -> Path:
    parser = argparse.ArgumentParser(
        prog="vllm-patch/environment/install-vllm",
        description="Makes a virtual environment with the CPU build of vLLM, without NVIDIA's packages: empty\n"
        "libraries fill their place. For tests only; a miner installs vLLM as its own documentation says.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("version", nargs="?", default=DEFAULT, help=f"{VERSIONS} (default: %(default)s)")
    parser.add_argument("--print", action="store_true", help="make nothing, print the path of an earlier run")
    args = parser.parse_args()
    wanted = release(args.version)
    if not args.print:
        return make_venv(wanted)
    venv = venv_path(wanted)
    if not is_complete(venv):
        raise BuildError(
            f"{venv} does not exist; run vllm-patch/environment/install-vllm {args.version} first"
        )
    return venv


def _model() -> Path:
    parser = argparse.ArgumentParser(
        prog="vllm-patch/environment/hf-model",
        description="Makes a small model in the form vLLM reads: SmolLM2-135M-Instruct from the file that\n"
        "llama-patch/model fetches, or one of random weights that is fast. Needs the environment of `install-vllm`.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--tiny", action="store_true", help="two small layers of random weights, fixed seed")
    parser.add_argument("--print", action="store_true", help="make nothing, print the path of an earlier run")
    args = parser.parse_args()
    kind = TINY if args.tiny else SMALL
    if not args.print:
        return make_model(kind)
    path = model_path(kind)
    if not path.exists():
        raise BuildError(f"{path} does not exist; run vllm-patch/environment/hf-model first")
    return path


def _lock() -> Path:
    # resolving needs a tool the others do without
    from .locking import write_lock

    parser = argparse.ArgumentParser(
        prog="vllm-patch/environment/lock",
        description="Resolves the packages of a vLLM release anew and writes its lock file.",
    )
    parser.add_argument("version", help=VERSIONS)
    return write_lock(release(parser.parse_args().version))
