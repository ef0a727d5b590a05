"""The cache folder: where it is, locks in it, checksums, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

from .console import note


def cache_root() -> Path:
    """`TENSORPOW_CACHE`, else `tensorpow` in the user's cache folder."""
    given = os.environ.get("TENSORPOW_CACHE")
    if given:
        return Path(given).resolve()
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user_cache) / "tensorpow"


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds `folder` against other runs of these tools; waits for one that is at work in it."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            note(f"another run works in {folder}; waiting for it")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def sha256_of(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def digest_of(parts: Iterable[str | bytes]) -> str:
    """One digest over a sequence of parts; where a part ends is part of it."""
    digest = hashlib.sha256()
    for part in parts:
        raw = part.encode() if isinstance(part, str) else part
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.hexdigest()


def put_whole(source: Path, target: Path) -> None:
    """Copies a file so that `target` is never seen half written, even by a process that runs it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(target.name + ".partial")
    shutil.copy2(source, partial)
    partial.replace(target)
