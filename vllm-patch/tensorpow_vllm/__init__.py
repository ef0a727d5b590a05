"""Proof of work in a stock vLLM: tokens of requests that carry a `pow` payload are chosen by
tensorpow, everything else is vLLM's own.

`plugin` is what vLLM loads. The engine-independent core is `arrivals`, `tracker`, `miner` and the
back ends; `v1` ties it to one of vLLM's seams, `parking` to its scheduler, `api_process` to its
HTTP side.
"""

__version__ = "0.1.0"
