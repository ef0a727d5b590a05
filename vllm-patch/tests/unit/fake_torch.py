"""As much of torch as the plugin touches, over NumPy, for tests where torch is not installed. Where
it is, the tests run on the real one.
"""

import importlib.util
import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np


class Tensor(np.ndarray[Any, Any]):
    """An array with the names of a tensor."""

    device: Any = SimpleNamespace(type="cpu")

    def to(self, *args: Any, dtype: Any = None, device: Any = None, non_blocking: bool = False) -> "Tensor":
        for arg in args:
            dtype = dtype if isinstance(arg, SimpleNamespace) else arg
        return self if dtype is None or dtype == self.dtype else self.astype(dtype).view(Tensor)

    def stride(self, dimension: int) -> int:
        return self.strides[dimension] // self.itemsize

    def contiguous(self) -> "Tensor":
        return np.ascontiguousarray(self).view(Tensor)

    def clone(self) -> "Tensor":
        return self.copy()

    def div_(self, other: Any) -> "Tensor":
        self /= other
        return self


def tensor(values: Any, dtype: Any = None, device: Any = None) -> Tensor:
    made: Tensor = np.array(values, dtype=dtype).view(Tensor)
    return made


def install() -> Any:
    """The torch to test with."""
    if "torch" not in sys.modules and importlib.util.find_spec("torch") is None:
        fake: Any = ModuleType("torch")
        # Types compare by identity, as torch's do.
        fake.float32, fake.int64, fake.int32 = np.dtype(np.float32), np.dtype(np.int64), np.dtype(np.int32)
        fake.float16 = np.dtype(np.float16)
        fake.tensor = tensor
        fake.device = lambda name: SimpleNamespace(type=name)
        fake.cuda = SimpleNamespace(is_available=lambda: False)
        fake.from_numpy = lambda array: array.view(Tensor)
        fake.argmax = lambda values, dim: np.asarray(values).argmax(axis=dim).view(Tensor)
        sys.modules["torch"] = fake
    return importlib.import_module("torch")
