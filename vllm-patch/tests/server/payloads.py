"""Payloads as a proxy sends them, with a real VDF proof, on a chain of their own with the easiest target."""

from __future__ import annotations

import functools
from typing import Any

from tensorpow import targets, vdf

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct@b179c9523d0e6a0f98a330c7562b682750a6f8c8"
CHUNK = 32768
BITS = 0x207FFFFF
DIFFICULTY = 1_000_000
ANY_SHARE = (1 << 256) - 1

Json = dict[str, Any]


@functools.cache
def _proved(block: bytes, tick: int) -> str:
    return vdf.prove(block, tick).hex()


def payload(*, block: bytes = b"\x2a" * 32, chunks: int = 1, **changes: Any) -> Json:
    """A payload of which every window is a share, and every second one a solution.

    Another block or another number of chunks is another draw. Changes of None leave a key out.
    """
    tick = chunks * CHUNK
    prefix = targets.header_prefix(3, block, b"\x3b" * 32, 0x6A89A000, BITS)
    target = targets.compact_to_target(BITS)
    made: Json = {
        "block_hash": block.hex(),
        "vdf": _proved(block, tick),
        "tick": tick,
        "target": target.to_bytes(32, "big").hex(),
        "share_target": "ff" * 32,
        "header_prefix": prefix.hex(),
        "ipfs_cid": "QmDefault",
        "request_id": 7,
        "difficulty": DIFFICULTY,
        "model_identifier": MODEL,
        "compute_precision": "bf16",
        **changes,
    }
    return {key: value for key, value in made.items() if value is not None}
