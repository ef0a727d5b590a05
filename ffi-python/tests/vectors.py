"""Vectors by name: the core's own copies, or those in the folders of `TENSORPOW_VECTORS`."""

import functools
import gzip
import json
import os
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
OWN = ROOT / "core" / "tests" / "vectors"


def read(path: Path) -> Any:
    data = path.read_bytes()
    return json.loads(gzip.decompress(data) if path.suffix == ".gz" else data)


@functools.cache
def load(name: str) -> Any:
    """The project's own vector file of that name, without extensions."""
    return read(OWN / f"{name}.json.gz")


@functools.cache
def every(name: str) -> list[Any]:
    """The files of that name in every folder of `TENSORPOW_VECTORS`, by default the own one."""
    folders = os.environ.get("TENSORPOW_VECTORS") or str(OWN)
    files = []
    for folder in folders.split(os.pathsep):
        found = [Path(folder) / f"{name}{end}" for end in (".json", ".json.gz")]
        files += [path for path in found if path.is_file()][:1]
    if not files:
        raise FileNotFoundError(f"no {name}.json(.gz) in {folders}")
    return [read(path) for path in files]
