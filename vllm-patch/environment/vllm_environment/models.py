"""The small models of the tests, in the form vLLM reads, kept in the cache by what they were made from."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from llama_build.cache import cache_root, digest_of, locked
from llama_build.console import note, run
from llama_build.model import fetch_model
from llama_build.model import model_path as gguf_path
from llama_build.pins import MODEL_SHA256

from .releases import DEFAULT, release
from .venv import make_venv

CONVERTER = Path(__file__).with_name("convert.py")


@dataclass(frozen=True)
class Kind:
    """One of the models."""

    name: str
    what: str


SMALL = Kind("SmolLM2-135M-Instruct", "converting SmolLM2-135M-Instruct to bf16 (269 MB)")
TINY = Kind("tiny-llama", "making two layers of random weights with the same tokenizer (26 MB)")


def model_path(kind: Kind) -> Path:
    """Where a model is once it is made."""
    key = digest_of([MODEL_SHA256, release(DEFAULT).lock.read_bytes(), CONVERTER.read_bytes()])
    return cache_root() / "models" / f"{kind.name}-{key[:12]}"


def make_model(kind: Kind) -> Path:
    """The folder of a model, made with the default environment's PyTorch if it is not there."""
    target = model_path(kind)
    if target.exists():
        return target
    fetch_model()
    venv = make_venv(release(DEFAULT))
    with locked(cache_root() / "models"):
        if not target.exists():
            note(kind.what)
            partial = target.with_name(target.name + ".partial")
            shutil.rmtree(partial, ignore_errors=True)
            command: list[str | Path] = [
                venv / "bin" / "python",
                "-P",
                CONVERTER,
                kind.name,
                gguf_path(),
                partial,
            ]
            run(command, what=kind.what, log=cache_root() / "models" / "log")
            partial.replace(target)
    return target
