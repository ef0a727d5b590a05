#!/usr/bin/env python3
"""Times libargon2, through the PyPI package argon2-cffi, beside our tries of the admission puzzle.

    python3 -m venv venv && venv/bin/pip install argon2-cffi
    cargo build --release -p tensorpow-benches --bin grind-rate
    venv/bin/python benches/grind_argon2_cffi.py target/release/grind-rate

The two take turns of 20 tries in one run, so that a busy machine disturbs both alike. The ratio is
the median over the turns of ours to libargon2's rate; above 1 ours is faster.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import threading
import time

from argon2 import low_level  # type: ignore[import-not-found]

TURNS = 31
TRIES = 20
MESSAGE = bytes([7]) * 2437


def theirs(threads: int) -> float:
    """Seconds that libargon2 takes for TRIES on each of so many threads."""

    def grind() -> None:
        for _ in range(TRIES):
            low_level.hash_secret_raw(MESSAGE, b"TC_V3_ADMISSION!", 1, 8192, 1, 32, low_level.Type.ID)

    workers = [threading.Thread(target=grind) for _ in range(threads)]
    start = time.perf_counter()
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return time.perf_counter() - start


def main() -> None:
    """Runs both in turns and prints rates and ratios."""
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with subprocess.Popen(
        [sys.argv[1], "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        asked, answered = server.stdin, server.stdout
        assert asked is not None and answered is not None

        def ours(threads: int) -> float:
            print(threads, TRIES, file=asked, flush=True)
            return float(answered.readline())

        for threads in (1, 2):
            ours(threads)
            theirs(threads)
            turns = [(ours(threads), theirs(threads)) for _ in range(TURNS)]
            us, them = (statistics.median(times) for times in zip(*turns))
            ratio = statistics.median(them / us for us, them in turns)
            done = threads * TRIES
            print(
                f"{threads} thread(s): ours {done / us:6.1f} tries/s, "
                f"libargon2 {done / them:6.1f} tries/s, ratio {ratio:.3f}"
            )
        asked.close()


if __name__ == "__main__":
    main()
