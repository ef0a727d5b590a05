"""Payloads and logits that the tests share."""

import json
import struct
from typing import Any

VOCAB = 256
# A header's first 76 bytes on the parent of the payload.
PREFIX = b"\x03\0\0\0" + b"\x11" * 32 + b"\x22" * 32 + b"\0\0\0\0" + b"\xff\xff\x7f\x20"


def payload(**changes: Any) -> dict[str, Any]:
    """A payload of which every second window is a solution, with the easiest target there is."""
    return {
        "block_hash": "11" * 32,
        "vdf": "22" * 100,
        "tick": 77,
        "target": "7fffff" + "00" * 29,
        "header_prefix": PREFIX.hex(),
        "request_id": 5,
        "difficulty": 1_000_000,
        "model_identifier": "test/model@" + "ab" * 20,
        "compute_precision": "bf16",
        **changes,
    }


def as_json(**changes: Any) -> str:
    return json.dumps(payload(**changes))


def f32(bits: str) -> float:
    """The float whose bits a vector gives in hex."""
    value: float = struct.unpack(">f", bytes.fromhex(bits))[0]
    return value


def metric(text: str, name: str) -> float:
    """The value of a counter; the name comes with its labels."""
    for line in text.splitlines():
        if line.rpartition(" ")[0] == name:
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no {name} in\n{text}")
