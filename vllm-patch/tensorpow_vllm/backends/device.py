"""The back end for logits on a GPU: their evidence is taken there, crosses to the host in one small
copy, and the choice is made from it by the same code that verifies it.
"""

from collections.abc import Callable
from importlib import import_module
from typing import Any

from tensorpow import Engine, Sequence

from tensorpow_vllm.backends.host import HostBackend
from tensorpow_vllm.miner import Outcome

LOGITS, IDS, STATS = slice(0, 70), slice(70, 140), slice(140, 146)
WIDTH = 146
"""32-bit words of a row's evidence: 70 logits, 70 ids, 6 statistics. spec: sampler §6"""
TOP, PROBES = 50, 20

Take = Callable[[Any, list[int], list[float]], Any]
"""Takes the evidence of rows at temperatures from logits of 16 bits: an int32 tensor of `WIDTH`
columns beside them. A row that cannot be mined has a NaN for its first logit.
"""


class DeviceBackend:
    """Evidence by `take`. Rows whose label is not the logits' own grid are rounded to it, where
    the type of the device does that as the specification says; the rest are the host's.
    """

    def __init__(self, name: str, take: Take) -> None:
        self.name = name
        self._take = take
        self._host = HostBackend()

    def widened(self, logits: Any) -> Any:
        """As they are: 16 bits are half the bytes to read."""
        return logits

    def choose(
        self, engine: Engine, sequences: list[Sequence], logits: Any, rows: list[int]
    ) -> list[Outcome]:
        """The token of `sequences[i]` from row `rows[i]`."""
        torch: Any = import_module("torch")
        outcomes: list[Outcome | None] = [None] * len(rows)
        groups: dict[Any, list[int]] = {}
        for at, sequence in enumerate(sequences):
            groups.setdefault(_grid(torch, logits.dtype, sequence.precision), []).append(at)
        for grid, members in groups.items():
            part, their_rows = [sequences[at] for at in members], [rows[at] for at in members]
            if grid is None:
                found = self._host.choose(engine, part, self._host.widened(logits), their_rows)
            else:
                found = self._record(engine, part, logits, their_rows, grid)
            for at, outcome in zip(members, found, strict=True):
                outcomes[at] = outcome
        return [outcome for outcome in outcomes if outcome is not None]

    def _record(
        self, engine: Engine, sequences: list[Sequence], logits: Any, rows: list[int], grid: Any
    ) -> list[Outcome]:
        if logits.dtype is not grid:
            torch: Any = import_module("torch")
            logits = logits[torch.tensor(rows, device=logits.device)].to(grid)
            rows = list(range(len(rows)))
        taken = self._take(logits, rows, [one.temperature for one in sequences]).cpu().numpy()
        floats = taken.view("float32")
        return engine.record_batch(sequences, floats[:, LOGITS], taken[:, IDS], floats[:, STATS])


def _grid(torch: Any, dtype: Any, label: str) -> Any:
    """The type of the device that is the grid of a label for logits of a type; None where the host
    has to round or check. spec: sampler §5.1
    """
    if label == "bf16" or (label == "fp8" and dtype is torch.bfloat16):
        return torch.bfloat16
    # What is wider is rounded to fp16 in a way of its own.
    return torch.float16 if label == "fp16" and dtype is torch.float16 else None
