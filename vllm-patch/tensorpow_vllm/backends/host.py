"""The back end for logits in the memory of the CPU: tensorpow reads them where they lie."""

from importlib import import_module
from typing import Any

from tensorpow import Engine, Sequence

from tensorpow_vllm.miner import Outcome


class HostBackend:
    """Float32 on the CPU is read in place."""

    name = "host"

    def widened(self, logits: Any) -> Any:
        """Float32, which costs nothing more: vLLM's sampler would widen them next."""
        torch: Any = import_module("torch")
        return logits.to(torch.float32)

    def choose(
        self, engine: Engine, sequences: list[Sequence], logits: Any, rows: list[int]
    ) -> list[Outcome]:
        """The token of `sequences[i]` from row `rows[i]`."""
        if logits.device.type != "cpu":
            # Whole rows cross to the host: right, and slow.
            torch: Any = import_module("torch")
            logits = logits[torch.tensor(rows, device=logits.device)].cpu()
            rows = list(range(len(rows)))
        return engine.sample_batch(sequences, logits, rows)
