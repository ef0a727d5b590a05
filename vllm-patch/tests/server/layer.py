"""An environment on top of the stock one: it sees everything there, and what is installed goes into it alone.

So one vLLM of 3 GB serves with and without the plugin, and what an installation adds can be looked at.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self


class Layer:
    """A virtual environment whose packages go before those of another; use as a context manager."""

    def __init__(self, stock: Path) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="vllm-layer-")
        self.stock = stock
        self.venv = Path(self._folder.name) / "venv"
        python = stock / "bin" / "python"
        subprocess.run([python, "-m", "venv", "--without-pip", self.venv], check=True)
        (self.packages / "stock.pth").write_text(f"{_packages(stock)}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._folder.cleanup()

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return self.venv / "bin" / "python"

    @property
    def packages(self) -> Path:
        """Where its own packages lie."""
        return _packages(self.venv)

    def install(self, *wheels: Path, env: dict[str, str] | None = None) -> None:
        """Installs wheels as a user does; whatever else they need has to be there or on the index."""
        self._pip("install", *map(str, wheels), env=env)

    def add(self, *requirements: str) -> None:
        """Installs packages from the index without what they need."""
        self._pip("install", "--no-deps", *requirements)

    def uninstall(self, *names: str) -> None:
        """Removes packages."""
        self._pip("uninstall", "--yes", *names)

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> str:
        """Runs the interpreter with more variables; returns what it prints."""
        command = [str(self.python), "-P", *arguments]
        variables = {**os.environ, **(env or {})}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=variables).stdout

    def _pip(self, *arguments: str, env: dict[str, str] | None = None) -> None:
        command: Sequence[str | Path] = [
            *(self.stock / "bin" / "python", "-m", "pip", "--python", self.python, "--quiet"),
            *("--disable-pip-version-check", *arguments),
        ]
        done = subprocess.run(command, capture_output=True, text=True, env=env, check=False)
        if done.returncode:
            raise AssertionError(f"pip {' '.join(arguments)}: {done.stderr[-2000:]}")


def _packages(venv: Path) -> Path:
    (found,) = venv.glob("lib/python3.*/site-packages")
    return found
