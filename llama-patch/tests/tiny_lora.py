"""Writes a LoRA adapter of zeros that fits the tests' model, as a GGUF file of a few kilobytes."""

from __future__ import annotations

import struct
from pathlib import Path

N_EMBD = 576  # of SmolLM2-135M
RANK = 1
GGUF_VERSION = 3
ALIGNMENT = 32
TYPE_F32_VALUE, TYPE_STRING_VALUE = 6, 8  # of metadata
TENSOR_F32 = 0


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<Q", len(raw)) + raw


def write_tiny_lora(path: Path) -> None:
    """One rank-1 pair for the query projection of the first layer."""
    metadata = [
        _text("general.architecture") + struct.pack("<I", TYPE_STRING_VALUE) + _text("llama"),
        _text("general.type") + struct.pack("<I", TYPE_STRING_VALUE) + _text("adapter"),
        _text("adapter.type") + struct.pack("<I", TYPE_STRING_VALUE) + _text("lora"),
        _text("adapter.lora.alpha") + struct.pack("<If", TYPE_F32_VALUE, 1.0),
    ]
    shapes = {
        "blk.0.attn_q.weight.lora_a": (N_EMBD, RANK),
        "blk.0.attn_q.weight.lora_b": (RANK, N_EMBD),
    }
    tensors = b""
    offset = 0
    for name, shape in shapes.items():
        tensors += _text(name) + struct.pack("<IQQIQ", 2, *shape, TENSOR_F32, offset)
        offset += 4 * shape[0] * shape[1]
    head = b"GGUF" + struct.pack("<IQQ", GGUF_VERSION, len(shapes), len(metadata))
    head += b"".join(metadata) + tensors
    padding = -len(head) % ALIGNMENT
    path.write_bytes(head + bytes(padding) + bytes(offset))
