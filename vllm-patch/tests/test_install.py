"""Installing both wheels beside a stock vLLM takes no compiler, and uninstalling them leaves no trace."""

from __future__ import annotations

import tempfile
import unittest
from pathlib import Path

from server.layer import Layer
from server.places import stock_venv, wheels

PLUGINS = """
from importlib.metadata import entry_points
print(*sorted(point.name for point in entry_points(group="vllm.general_plugins")))
"""
SEAMS = """
from vllm.v1.worker.gpu_model_runner import GPUModelRunner
from vllm.v1.sample.sampler import Sampler
from vllm.plugins import load_general_plugins
load_general_plugins()
methods = (GPUModelRunner.execute_model, Sampler.forward, Sampler.sample)
print(*("tensorpow_vllm" in method.__code__.co_filename for method in methods))
"""


def contents(folder: Path) -> dict[str, tuple[int, int]]:
    """Every file with its size and the time it was changed; what running Python writes is left out."""
    found = {}
    for path in folder.rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            state = path.stat()
            found[str(path.relative_to(folder))] = (state.st_size, state.st_mtime_ns)
    return found


class Installing(unittest.TestCase):
    """A layer of its own, because the one that the tests run in holds the wheels already."""

    def test_there_and_back(self) -> None:
        stock = contents(stock_venv())
        with Layer(stock_venv()) as layer, tempfile.TemporaryDirectory() as empty:
            bare = contents(layer.venv)
            self.assertEqual(layer.run("-c", PLUGINS).split().count("tensorpow"), 0)
            # no compiler, no cargo: nothing but what the interpreter brings
            layer.install(*wheels(), env={"PATH": empty, "HOME": empty})
            self.assertEqual(layer.run("-c", PLUGINS).split().count("tensorpow"), 1)
            self.assertGreater(len(contents(layer.venv)), len(bare))
            layer.uninstall("tensorpow", "tensorpow-vllm")
            self.assertEqual(contents(layer.venv), bare)
        self.assertEqual(contents(stock_venv()), stock)

    def test_without_its_variable_it_touches_nothing(self) -> None:
        with Layer(stock_venv()) as layer:
            layer.install(*wheels())
            untouched = layer.run("-c", SEAMS, env={"VLLM_ENABLE_POW": "0"})
            wrapped = layer.run("-c", SEAMS, env={"VLLM_ENABLE_POW": "1"})
        # the last line: older releases log to standard output
        self.assertEqual(untouched.splitlines()[-1].split(), ["False"] * 3)
        self.assertEqual(wrapped.splitlines()[-1].split(), ["True"] * 3)


if __name__ == "__main__":
    unittest.main()
