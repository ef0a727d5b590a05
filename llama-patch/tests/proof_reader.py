"""An independent reader of proof messages: FlatBuffers by offsets, hashes by hashlib.

It shares no line with the Rust core, so that the end-to-end test does not ask the code under test for its
own verdict. Reads trusted bytes only; the strict reader is the core's.
"""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from functools import cached_property

WINDOW = 256


class Table:
    """A table at a position; field numbers count from 0 in declaration order."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data = data
        self.at = at
        self.vtable = at - struct.unpack_from("<i", data, at)[0]
        self.fields = (struct.unpack_from("<H", data, self.vtable)[0] - 4) // 2

    def place(self, field: int) -> int | None:
        if field >= self.fields:
            return None
        offset = struct.unpack_from("<H", self.data, self.vtable + 4 + 2 * field)[0]
        return self.at + offset if offset else None

    def number(self, field: int, form: str) -> int:
        at = self.place(field)
        return 0 if at is None else int(struct.unpack_from("<" + form, self.data, at)[0])

    def real(self, field: int) -> float:
        at = self.place(field)
        return 0.0 if at is None else float(struct.unpack_from("<f", self.data, at)[0])

    def target(self, field: int) -> int | None:
        at = self.place(field)
        return None if at is None else at + int(struct.unpack_from("<I", self.data, at)[0])

    def table(self, field: int) -> Table | None:
        at = self.target(field)
        return None if at is None else Table(self.data, at)

    def vector(self, field: int, form: str) -> bytes:
        at = self.target(field)
        if at is None:
            return b""
        count = struct.unpack_from("<I", self.data, at)[0]
        return self.data[at + 4 : at + 4 + count * struct.calcsize(form)]

    def words(self, field: int) -> tuple[int, ...]:
        raw = self.vector(field, "I")
        return struct.unpack(f"<{len(raw) // 4}I", raw)

    def reals(self, field: int) -> tuple[float, ...]:
        raw = self.vector(field, "f")
        return struct.unpack(f"<{len(raw) // 4}f", raw)

    def rows(self, field: int) -> list[bytes]:
        at = self.target(field)
        if at is None:
            return []
        count = struct.unpack_from("<I", self.data, at)[0]
        rows = []
        for i in range(count):
            element = at + 4 + 4 * i
            rows.append(Table(self.data, element + struct.unpack_from("<I", self.data, element)[0]))
        return [row.vector(0, "I") for row in rows]


def _double_sha(data: bytes) -> bytes:
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


@dataclass
class Message:
    """A `MiningResponse` with its proof."""

    data: bytes

    @cached_property
    def response(self) -> Table:
        return Table(self.data, struct.unpack_from("<I", self.data, 0)[0])

    @cached_property
    def proof(self) -> Table:
        proof = self.response.table(5)
        if proof is None:
            raise AssertionError("the message holds no proof")
        return proof

    @property
    def completion_id(self) -> str:
        return self.response.vector(6, "B").decode()

    @property
    def version(self) -> int:
        return self.proof.number(0, "B")

    @property
    def tokens(self) -> tuple[int, ...]:
        return self.proof.words(17)

    @property
    def prompt(self) -> tuple[int, ...]:
        return self.proof.words(21)

    @property
    def nonce(self) -> bytes:
        """The admission nonce of version 3, which every message of the window ends with."""
        flags = json.loads(self.proof.vector(12, "B") or b"{}")
        return bytes.fromhex(flags.get("v3", {}).get("admission_nonce", "")) if self.version >= 3 else b""

    @property
    def is_solution(self) -> bool:
        return bool(self.proof.number(8, "B"))

    @property
    def prefix(self) -> bytes:
        return self.proof.vector(7, "B")

    @property
    def digest(self) -> bytes:
        return self.proof.vector(5, "B")

    @property
    def evidence(self) -> str:
        """SHA-256 of everything the forward pass left in the proof."""
        parts = hashlib.sha256()
        for field in (23, 24, 25):
            for row in self.proof.rows(field):
                parts.update(row)
        for field in (17, 18, 19, 20):
            parts.update(self.proof.vector(field, "I"))
        return parts.hexdigest()

    def step_message(self, context: tuple[int, ...], step: int) -> bytes:
        """The bytes a step hashes. spec: sampler.md §2"""
        window = (0,) * max(0, WINDOW - len(context)) + context[-WINDOW:]
        tick = self.proof.number(1, "Q") & 0xFFFFFFFF
        return b"".join(
            [
                self.prefix,
                self.proof.vector(4, "B"),
                struct.pack("<II", tick, step),
                struct.pack(f"<{WINDOW}Q", *window),
                self.proof.vector(10, "B"),
                self.nonce,
            ]
        )

    def expand_bits(self) -> int:
        """The target that the prefix's compact form stands for. spec: targets.md §2"""
        bits = struct.unpack_from("<I", self.prefix, 72)[0]
        exponent, mantissa = bits >> 24, bits & 0x7FFFFF
        value = mantissa >> 8 * (3 - exponent) if exponent <= 3 else mantissa << 8 * (exponent - 3)
        return int(value & (1 << 256) - 1)

    def problems(self, share_target: int) -> list[str]:
        """What is wrong with the hashes, draws, counts and bindings; the intervals are the core's to judge."""
        wrong = []
        draws = self.proof.reals(19)
        if len(self.tokens) != WINDOW or len(draws) != WINDOW:
            wrong.append(f"{len(self.tokens)} tokens and {len(draws)} draws")
        for step, claimed in enumerate(draws):
            digest = hashlib.sha256(self.step_message(self.prompt + self.tokens[:step], step)).digest()
            # one rounding to f32; the division by a power of two is exact
            rounded = struct.unpack("<f", struct.pack("<f", struct.unpack_from("<I", digest)[0]))[0]
            if rounded / 2**32 != claimed:
                wrong.append(f"draw {step} is {claimed}, not {rounded / 2**32}")
                break
        if hashlib.sha256(self.step_message(self.tokens, 0)).digest() != self.digest:
            wrong.append("closing digest")
        if int.from_bytes(self.proof.vector(3, "B"), "big") != self.expand_bits():
            wrong.append("target is not that of the prefix")
        header = int.from_bytes(_double_sha(self.prefix + self.digest[:4]), "little")
        limit = self.expand_bits() if self.is_solution else share_target
        if header > limit:
            wrong.append("header hash above its target")
        if self.response.number(1, "I") != struct.unpack_from("<I", self.digest)[0]:
            wrong.append("nonce")
        if self.response.number(2, "I") != struct.unpack_from("<I", self.prefix, 72)[0]:
            wrong.append("adjusted_bits")
        if self.proof.vector(6, "B") != self.prefix[4:36]:
            wrong.append("block_hash is not the parent in the prefix")
        if len(self.proof.vector(22, "B")) != len(self.prompt):
            wrong.append("pad_mask length")
        return wrong
