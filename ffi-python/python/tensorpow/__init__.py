"""Proof of work from the tokens a language model samples.

    engine = tensorpow.Engine()
    sequence = engine.begin(pow, prompt_ids, vocab)  # NotMined: serve the request as usual
    token = sequence.sample(logits)  # proofs leave by themselves

`Proof` reads, judges and writes proofs; `vdf`, `targets` and `admission` hold the rest of the
protocol. What is documented, with types, is `_lib.pyi`.
"""

from tensorpow import admission, targets, vdf
from tensorpow._exclude import Exclude
from tensorpow._lib import (
    CheckFailed,
    Choice,
    Engine,
    Error,
    Evidence,
    MiningResponse,
    NotMined,
    NoVerdict,
    Proof,
    ProofError,
    Sequence,
    SettingsError,
    StepHasher,
    Stopped,
    Verdict,
    __version__,
    draw,
)

__all__ = [
    "CheckFailed",
    "Choice",
    "Engine",
    "Error",
    "Evidence",
    "Exclude",
    "MiningResponse",
    "NoVerdict",
    "NotMined",
    "Proof",
    "ProofError",
    "Sequence",
    "SettingsError",
    "StepHasher",
    "Stopped",
    "Verdict",
    "__version__",
    "admission",
    "draw",
    "targets",
    "vdf",
]
