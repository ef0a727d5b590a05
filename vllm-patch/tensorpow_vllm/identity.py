"""What this vLLM knows about its model: the identifier and the precision that proofs name when the
payload does not. spec: sampler §1

The operator's `TENSORPOW_MODEL_IDENTIFIER` and `TENSORPOW_COMPUTE_PRECISION` go before both, and
what is not certain is left to them.
"""

import re
from pathlib import PurePath
from typing import Any

COMMIT = re.compile(r"[0-9a-f]{40}")
LABELS = {"torch.bfloat16": "bf16", "torch.float16": "fp16"}


def model_identifier(model_config: Any) -> str | None:
    """`name@commit` of a model that was loaded by name and commit, or from a hub's cache."""
    model = str(getattr(model_config, "model", "") or "")
    revision = str(getattr(model_config, "revision", None) or "")
    if COMMIT.fullmatch(revision) and model.count("/") <= 1 and not model.startswith((".", "/")):
        return f"{model}@{revision}"
    # .../models--owner--name/snapshots/<commit>
    parts = PurePath(model).parts
    for folder, kind, commit in zip(parts, parts[1:], parts[2:], strict=False):
        if folder.startswith("models--") and kind == "snapshots" and COMMIT.fullmatch(commit):
            return f"{folder.removeprefix('models--').replace('--', '/')}@{commit}"
    return None


def compute_precision(model_config: Any) -> str | None:
    """The label of the logits' own type; None where it is wider than any label."""
    return LABELS.get(str(getattr(model_config, "dtype", "")))
