"""The vectors of the core, read once."""

import functools
import gzip
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@functools.cache
def load(name: str) -> Any:
    """A vector file by its name without extensions."""
    packed = ROOT / "core" / "tests" / "vectors" / f"{name}.json.gz"
    return json.loads(gzip.decompress(packed.read_bytes()))
