"""The programs a build needs: cmake and ninja from PATH or a private environment, pip, patch, cargo."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .cache import cache_root, locked, put_whole, sha256_of
from .console import BuildError, note, run
from .pins import CMAKE_REQUIREMENT, NINJA_REQUIREMENT, REPOSITORY, Package


@dataclass(frozen=True)
class Tools:
    cmake: Path
    ninja: Path


def _works(program: str | None) -> bool:
    """True if the program runs: a version manager may put a name on PATH that leads nowhere."""
    if program is None:
        return False
    try:
        done = subprocess.run([program, "--version"], capture_output=True, check=False)
    except OSError:
        return False
    return done.returncode == 0


def private_environment() -> Path:
    """The `bin` of a virtual environment of our own; the system's Python may refuse pip (PEP 668)."""
    folder = cache_root() / "tools"
    binaries = folder / "venv" / "bin"
    with locked(folder):
        if not _works(str(binaries / "pip")):
            note("making a private Python environment")
            run(
                [sys.executable, "-m", "venv", "--clear", folder / "venv"],
                what="making a virtual environment (on Debian it needs the package python3-venv)",
                log=folder / "log",
            )
    return binaries


def find_tools() -> Tools:
    """cmake and ninja, installed into the private environment if PATH has none that run."""
    if not any(shutil.which(name) for name in (os.environ.get("CXX") or "c++", "g++", "clang++")):
        raise BuildError("no C++ compiler found; install one (Debian: g++) or name it in CXX")
    on_path = {name: shutil.which(name) for name in ("cmake", "ninja")}
    missing = [name for name, program in on_path.items() if not _works(program)]
    if missing:
        binaries = private_environment()
        wanted = {"cmake": CMAKE_REQUIREMENT, "ninja": NINJA_REQUIREMENT}
        with locked(cache_root() / "tools"):
            absent = [wanted[name] for name in missing if not _works(shutil.which(binaries / name))]
            if absent:
                note(f"installing {' and '.join(absent)} into the private environment")
                install: list[str | Path] = [binaries / "pip", "install", "--quiet", *absent]
                run(install, what="installing build tools", log=cache_root() / "tools" / "log")
        on_path.update({name: str(binaries / name) for name in missing})
    return Tools(cmake=Path(on_path["cmake"] or ""), ninja=Path(on_path["ninja"] or ""))


def fetch(package: Package) -> Path:
    """The package's file in the cache, its checksum verified; downloaded by pip when absent."""
    folder = cache_root() / "downloads"
    target = folder / package.file_name
    with locked(folder):
        if target.exists() and sha256_of(target) == package.sha256:
            return target
        note(f"fetching {package.requirement} ({package.size})")
        arriving = folder / "arriving"
        shutil.rmtree(arriving, ignore_errors=True)
        command: list[str | Path] = [private_environment() / "pip", "download", "--no-deps"]
        command += [*package.pip_options, "--dest", arriving, package.requirement]
        run(command, what=f"fetching {package.requirement}", log=folder / "log")
        arrived = arriving / package.file_name
        if not arrived.exists():
            found = sorted(path.name for path in arriving.iterdir())
            raise BuildError(f"{package.requirement}: expected {package.file_name}, got {found}")
        actual = sha256_of(arrived)
        if actual != package.sha256:
            raise BuildError(f"{package.file_name} has SHA-256 {actual}, not the pinned {package.sha256}")
        put_whole(arrived, target)
        shutil.rmtree(arriving)
    return target


def apply_patch(patch: Path, folder: Path) -> None:
    """Applies one patch below `folder`, which need not be under version control."""
    log = cache_root() / "patch.log"
    what = f"applying {patch.name}"
    if shutil.which("patch"):
        command = [
            "patch",
            "-p1",
            "--forward",
            "--no-backup-if-mismatch",
            "-d",
            str(folder),
            "-i",
            str(patch),
        ]
        run(command, what=what, log=log)
    elif shutil.which("git"):
        # or git takes the cache for a part of a repository around it and skips the files
        env = {**os.environ, "GIT_CEILING_DIRECTORIES": str(folder.parent)}
        run(["git", "-C", str(folder), "apply", "-p1", str(patch)], what=what, log=log, env=env)
    else:
        raise BuildError("neither patch nor git found; install one of them")


def build_library() -> Path:
    """Builds the Rust library of this repository and returns libtensorpow.a."""
    if not (REPOSITORY / "ffi-c" / "Cargo.toml").exists():
        raise BuildError(f"no ffi-c in {REPOSITORY}; give TENSORPOW_LIB a libtensorpow.a, or use --stub")
    if not _works(shutil.which("cargo")):
        raise BuildError("cargo not found; install Rust, give TENSORPOW_LIB a libtensorpow.a, or use --stub")
    note("building libtensorpow.a")
    manifest = ["--manifest-path", str(REPOSITORY / "Cargo.toml")]
    command = ["cargo", "build", *manifest, "--release", "-p", "tensorpow-ffi-c"]
    if subprocess.run(command, stdout=sys.stderr, check=False).returncode != 0:
        raise BuildError("the Rust library did not build; cargo says why above")
    metadata = subprocess.run(
        ["cargo", "metadata", *manifest, "--format-version", "1", "--no-deps"],
        check=True,
        stdout=subprocess.PIPE,
    )
    library = Path(json.loads(metadata.stdout)["target_directory"]) / "release" / "libtensorpow.a"
    if not library.exists():
        raise BuildError(f"cargo built tensorpow-ffi-c but left no {library}")
    return library
