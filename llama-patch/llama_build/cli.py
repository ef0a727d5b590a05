"""The command lines of `build` and `model`."""

from __future__ import annotations

import argparse
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

from .console import BuildError, note
from .model import fetch_model, model_path
from .server import STOCK, Options, Variant, Workspace, library_variant, stub_variant
from .toolchain import build_library

BUILD_EPILOG = """\
environment:
  LLAMA_CPP_DIR      a llama.cpp source tree to copy, instead of the pinned one
  TENSORPOW_LIB      a libtensorpow.a to link, instead of building this repository's
  TENSORPOW_INCLUDE  folder of its tensorpow.h
  TENSORPOW_CACHE    cache folder (default: tensorpow in the user's cache folder)
The last line of standard output is the path of the binary."""


def build() -> int:
    return _guarded(_build)


def model() -> int:
    return _guarded(_model)


def _guarded(command: Callable[[], Path]) -> int:
    try:
        print(command())
    except (BuildError, OSError, subprocess.CalledProcessError) as error:
        note(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        note("interrupted; the next run goes on from here")
        return 130
    return 0


def _definition(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return key, value


def _jobs(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of jobs")
    return int(text)


def _build() -> Path:
    parser = argparse.ArgumentParser(
        prog="llama-patch/build",
        description="Builds llama-server with proof-of-work sampling from the pinned llama.cpp.",
        epilog=BUILD_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--stock", action="store_true", help="build the unpatched server only")
    which.add_argument(
        "--stub", action="store_true", help="build with a stub that mines nothing; needs no Rust"
    )
    parser.add_argument(
        "--jobs", type=_jobs, default=os.cpu_count() or 1, help="compiler processes (default: %(default)s)"
    )
    parser.add_argument(
        "--portable", action="store_true", help="do not use this machine's own instruction set"
    )
    parser.add_argument(
        "--cuda", nargs="?", const="", metavar="ARCH", help="CUDA, optionally for these architectures (90)"
    )
    parser.add_argument("--metal", action="store_true", help="Metal, with its library embedded")
    _add_print(parser, "build")
    parser.add_argument(
        "-D",
        dest="definitions",
        action="append",
        default=[],
        type=_definition,
        metavar="NAME=VALUE",
        help="cmake definition",
    )
    args = parser.parse_args()
    options = Options(
        jobs=args.jobs,
        portable=args.portable,
        cuda=args.cuda,
        metal=args.metal,
        definitions=dict(args.definitions),
    )
    workspace = Workspace(options)
    if args.print:
        # the path does not depend on what the library of this repository holds
        return _existing(workspace.binary(_variant(args, own_library=lambda: Path())), "llama-patch/build")
    return workspace.build(_variant(args, own_library=build_library))


def _variant(args: argparse.Namespace, own_library: Callable[[], Path]) -> Variant:
    if args.stock:
        return STOCK
    if args.stub:
        return stub_variant()
    given = os.environ.get("TENSORPOW_LIB")
    if given is None:
        return library_variant(own_library(), given=False)
    library = Path(given).resolve()
    if not library.is_file():
        raise BuildError(f"TENSORPOW_LIB={given} is not a file")
    return library_variant(library, given=True)


def _model() -> Path:
    parser = argparse.ArgumentParser(
        prog="llama-patch/model",
        description="Fetches SmolLM2-135M-Instruct (Apache-2.0); the last line of standard output is its path.",
    )
    _add_print(parser, "fetch")
    if parser.parse_args().print:
        return _existing(model_path(), "llama-patch/model")
    return fetch_model()


def _add_print(parser: argparse.ArgumentParser, verb: str) -> None:
    parser.add_argument(
        "--print", action="store_true", help=f"{verb} nothing, print the path of an earlier run"
    )


def _existing(path: Path, maker: str) -> Path:
    if not path.exists():
        raise BuildError(f"{path} does not exist; run {maker} first")
    return path
