"""Ways from logits to tokens: `host` in the memory of the CPU, `device` by evidence that is taken
where the logits are, with a Triton kernel or with torch. One is chosen at the start.
"""

from importlib import import_module, util
from typing import Any

from tensorpow_vllm.backends.device import DeviceBackend
from tensorpow_vllm.backends.host import HostBackend
from tensorpow_vllm.miner import Backend

__all__ = ["Backend", "DeviceBackend", "HostBackend", "backend_for"]


def backend_for(wanted: str, device: Any) -> Backend:
    """The back end for logits on a torch device; `wanted` is the operator's word."""
    if wanted == "auto":
        wanted = "host"
        if device.type == "cuda":
            wanted = "triton" if util.find_spec("triton") is not None else "torch"
    if wanted == "host":
        return HostBackend()
    module: Any = import_module(f"tensorpow_vllm.backends.evidence_{wanted}")
    return DeviceBackend(wanted, module.take)
