"""Which vLLM an environment can hold, with which PyTorch, and where its pins are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from llama_build.console import BuildError

ENVIRONMENT_DIR = Path(__file__).resolve().parent.parent
PYTHON = (3, 11)
"""The pins name files for this Python, on Linux x86-64."""


@dataclass(frozen=True)
class Release:
    """One release of the CPU build of vLLM."""

    vllm: str
    torch: str

    @property
    def lock(self) -> Path:
        """Every package with its version and checksum."""
        return ENVIRONMENT_DIR / "locks" / f"vllm-{self.vllm}.txt"


RELEASES = {
    release.vllm: release
    for release in (Release("0.32.0", "2.13.0"), Release("0.19.1", "2.10.0"), Release("0.16.0", "2.10.0"))
}
DEFAULT = "0.32.0"


def release(version: str) -> Release:
    """The release of that name; the error says which there are."""
    if version not in RELEASES:
        raise BuildError(f"no pins for vLLM {version}; there are {', '.join(RELEASES)}")
    return RELEASES[version]
