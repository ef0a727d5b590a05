"""What a shared library asks of others: the libraries it names, and the symbols it expects of them.

Reads the dynamic section of 64-bit little-endian ELF files, which is all that PyTorch's Linux wheels
hold. Trusts the file: it was checked against a pinned SHA-256 on its way here.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass, field
from pathlib import Path

_PT_LOAD, _PT_DYNAMIC = 1, 2
_DT_NEEDED, _DT_STRTAB, _DT_SYMTAB, _DT_SONAME = 1, 5, 6, 14
_DT_GNU_HASH, _DT_HASH = 0x6FFFFEF5, 4
_DT_VERSYM, _DT_VERNEED, _DT_VERNEEDNUM = 0x6FFFFFF0, 0x6FFFFFFE, 0x6FFFFFFF
_SYMBOL_BYTES = 24
_WEAK = 2
_ANY_VERSION = 1  # version indices 0 and 1 are "local" and "global": no version is asked for


@dataclass
class Library:
    """One shared library as the dynamic linker sees it."""

    needed: list[str] = field(default_factory=list)
    defined: set[str] = field(default_factory=set)
    missing: set[str] = field(default_factory=set)
    """Symbols it expects from anywhere, weak ones left out."""
    versioned: dict[str, dict[str, set[str]]] = field(default_factory=dict)
    """Symbols it expects from one library in one version: library, version, names."""


def read(path: Path) -> Library:
    """Reads a library's dynamic section."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return _Reader(data).library()


class _Reader:
    def __init__(self, data: mmap.mmap) -> None:
        self._data = data
        if data[:6] != b"\x7fELF\x02\x01":
            raise ValueError("not a 64-bit little-endian ELF file")
        (table,) = struct.unpack_from("<Q", data, 32)
        size, count = struct.unpack_from("<HH", data, 54)
        segments = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
        self._loaded: list[tuple[int, int, int]] = [
            (at, offset, length) for kind, _, offset, at, _, length in segments if kind == _PT_LOAD
        ]
        self._tags: dict[int, list[int]] = {}
        for kind, _, offset, _, _, length in segments:
            if kind == _PT_DYNAMIC:
                for place in range(offset, offset + length, 16):
                    tag, value = struct.unpack_from("<QQ", data, place)
                    self._tags.setdefault(tag, []).append(value)

    def _offset(self, address: int) -> int:
        for start, offset, length in self._loaded:
            if start <= address < start + length:
                return address - start + offset
        raise ValueError(f"address {address:#x} is in no segment")

    def _table(self, tag: int) -> int:
        return self._offset(self._tags[tag][0])

    def _text(self, at: int) -> str:
        start = self._table(_DT_STRTAB) + at
        return self._data[start : self._data.find(b"\0", start)].decode()

    def _symbol_count(self) -> int:
        if _DT_HASH in self._tags:
            return int(struct.unpack_from("<I", self._data, self._table(_DT_HASH) + 4)[0])
        # the GNU table holds no count: the longest chain ends with the last symbol
        table = self._table(_DT_GNU_HASH)
        buckets, first, bloom, _ = struct.unpack_from("<IIII", self._data, table)
        heads = table + 16 + 8 * bloom
        last = max(struct.unpack_from(f"<{buckets}I", self._data, heads))
        if last < first:
            return int(first)
        chains = heads + 4 * buckets
        while not struct.unpack_from("<I", self._data, chains + 4 * (last - first))[0] & 1:
            last += 1
        return int(last) + 1

    def _versions(self) -> dict[int, tuple[str, str]]:
        """Version index to library and version."""
        found: dict[int, tuple[str, str]] = {}
        if _DT_VERNEED not in self._tags:
            return found
        at = self._table(_DT_VERNEED)
        for _ in range(self._tags[_DT_VERNEEDNUM][0]):
            _, count, library, first, following = struct.unpack_from("<HHIII", self._data, at)
            entry = at + first
            for _ in range(count):
                _, _, index, version, after = struct.unpack_from("<IHHII", self._data, entry)
                found[index & 0x7FFF] = (self._text(library), self._text(version))
                entry += after
            at += following
        return found

    def library(self) -> Library:
        result = Library(needed=[self._text(at) for at in self._tags.get(_DT_NEEDED, [])])
        versions = self._versions()
        symbols = self._table(_DT_SYMTAB)
        indices = self._table(_DT_VERSYM) if _DT_VERSYM in self._tags else None
        for i in range(1, self._symbol_count()):
            name, info, _, section = struct.unpack_from("<IBBH", self._data, symbols + i * _SYMBOL_BYTES)
            if section:
                result.defined.add(self._text(name))
                continue
            if info >> 4 == _WEAK:
                continue
            index = _ANY_VERSION
            if indices is not None:
                index = struct.unpack_from("<H", self._data, indices + 2 * i)[0] & 0x7FFF
            if index <= _ANY_VERSION:
                result.missing.add(self._text(name))
            else:
                library, version = versions[index]
                result.versioned.setdefault(library, {}).setdefault(version, set()).add(self._text(name))
        return result
