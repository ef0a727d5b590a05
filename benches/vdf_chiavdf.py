#!/usr/bin/env python3
"""Times the PyPI package chiavdf beside `vdf-ratios` and prints both and their ratios.

    python3 -m pip install chiavdf
    cargo build --release -p tensorpow-benches --features gmp --bin vdf-ratios
    python3 benches/vdf_chiavdf.py target/release/vdf-ratios

The two run one after the other, three times in turn, and the best of each counts, so that a busy
machine disturbs both alike.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import chiavdf  # type: ignore[import-not-found]

BITS = 1024
GENERATOR = bytes([8]) + bytes(99)
CHALLENGE = bytes([7] * 32)
TICKS = 32_768


def timed(work: Callable[[], object], repeat: int) -> float:
    """Median seconds of `repeat` calls."""
    spans = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        spans.append(time.perf_counter() - start)
    return statistics.median(spans)


def theirs() -> dict[str, float]:
    """chiavdf's figures under the names that `vdf-ratios` uses."""
    discriminant = chiavdf.create_discriminant(CHALLENGE, BITS)
    proof = chiavdf.prove(CHALLENGE, GENERATOR, BITS, TICKS, "")

    def verify() -> None:
        assert chiavdf.verify_n_wesolowski(discriminant, GENERATOR, proof, TICKS, BITS, 0)

    start = time.perf_counter()
    for i in range(20):
        chiavdf.create_discriminant(bytes([i] * 32), BITS)
    derive = (time.perf_counter() - start) / 20
    prove = timed(lambda: chiavdf.prove(CHALLENGE, GENERATOR, BITS, 100_000, ""), 3)
    return {
        "discriminant_ms_mean": derive * 1e3,
        "verify_ms": timed(verify, 50) * 1e3,
        "prove_ticks_per_s": 100_000 / prove,
    }


def main() -> None:
    """Runs both and prints the table."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    ours: list[dict[str, float]] = []
    chia: list[dict[str, float]] = []
    for _ in range(3):
        ours.append(json.loads(subprocess.check_output([sys.argv[1], "--json"])))
        chia.append(theirs())
    for name in ("verify_ms", "discriminant_ms_mean"):
        us, them = min(run[name] for run in ours), min(run[name] for run in chia)
        print(f"{name:<24} ours {us:9.3f} ms, chiavdf {them:9.3f} ms, ratio {us / them:.3f}")
    us = max(run["prove_ticks_per_s"] for run in ours)
    them = max(run["prove_ticks_per_s"] for run in chia)
    print(f"{'prove_ticks_per_s':<24} ours {us:9.0f}, chiavdf {them:9.0f}, ratio {us / them:.3f}")
    for name in ("squarings_per_s", "gmp_squarings_per_s", "squarings_to_gmp"):
        if name in ours[0]:
            print(f"{name:<24} ours {max(run[name] for run in ours):12.3f}")


if __name__ == "__main__":
    main()
