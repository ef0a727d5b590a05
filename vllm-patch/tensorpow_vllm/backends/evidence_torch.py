"""Evidence in plain torch operations: slow, and the measure of the kernel in tests. It is also what
a GPU without Triton takes.
"""

from importlib import import_module
from itertools import pairwise
from typing import Any

from tensorpow_vllm.backends.device import PROBES, TOP, WIDTH


def take(logits: Any, rows: list[int], temperatures: list[float]) -> Any:
    """The evidence of rows; see `device.Take`."""
    torch: Any = import_module("torch")
    device = logits.device
    raw = logits[torch.tensor(rows, device=device)].float()
    finite = torch.isfinite(raw)
    least = torch.where(finite, raw, torch.inf).amin(1, keepdim=True)
    minable = finite.any(1) & ~(torch.isnan(raw) | (raw == torch.inf)).any(1)
    # Reserved ids are masked with -inf and count as the smallest of the row. spec: sampler §5.1
    settled = torch.where(raw == -torch.inf, least, raw)
    ranked, ids = settled.sort(dim=1, descending=True, stable=True)
    width = settled.shape[1]
    probes = torch.arange(PROBES, device=device) * max(1, width // PROBES)
    values = torch.cat([ranked[:, :TOP], settled[:, probes]], 1)
    values[:, 0] = torch.where(minable, values[:, 0], torch.nan)
    places = torch.cat([ids[:, :TOP], probes.expand(len(rows), PROBES)], 1).int()
    scaled = settled / torch.tensor(temperatures, device=device, dtype=torch.float32)[:, None]
    stats = torch.zeros((len(rows), 6), dtype=torch.float64, device=device)
    stats[:, 0] = scaled.double().logsumexp(1)
    edges = (0, 50, 500, 2000, width)
    for at, (start, end) in enumerate(pairwise(edges), start=1):
        if start < end <= width:
            stats[:, at] = ranked[:, start:end].double().mean(1)
    stats[:, 5] = ranked.double().mean(1)
    taken = torch.empty((len(rows), WIDTH), dtype=torch.int32, device=device)
    taken[:, :70] = values.contiguous().view(torch.int32)
    taken[:, 70:140] = places
    taken[:, 140:] = stats.float().contiguous().view(torch.int32)
    return taken
