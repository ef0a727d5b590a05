#!/usr/bin/env python3
"""Tokens per second of a real vLLM on the CPU with every row mined, against its own sampling at the
same parameters: one server, turns of both kinds one after the other, so that a busy machine
disturbs both alike.

    python3 benches/vllm_throughput.py [--batch 1 8] [--turns 9] [--model small|tiny]

A turn is `--batch` requests at once, 256 tokens each. The ratio is the median over the turns of
mined to stock; 0.97 is wanted. `VLLM_TEST_VENV`, `TENSORPOW_WHEELS` and `VLLM_TEST_LOCK` as for
`vllm-patch/tests/run`.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "vllm-patch" / "tests"))

from server.layer import Layer
from server.places import small_model, stock_venv, tiny_model, wheels
from server.vllm_server import NAME, Json, VllmServer

TOKENS = 256
# Found in no prefix cache twice, and the same for both kinds.
PROMPT = "Turn {turn}, row {row}: a long story about rivers. Once"


def turn(server: VllmServer, batch: int, number: int, pow_: Json | None) -> float:
    """Tokens per second of one turn."""

    def ask(row: int) -> int:
        prompt = PROMPT.format(turn=number, row=row)
        body: Json = {"model": NAME, "prompt": prompt, "max_tokens": TOKENS, "ignore_eos": True}
        body |= {"temperature": 1.0, "top_k": 50, "top_p": 1.0}
        if pow_ is not None:
            body["vllm_xargs"] = {"pow": pow_}
        answer = server.post("/v1/completions", body)
        return int(answer["usage"]["completion_tokens"])

    began = time.monotonic()
    with ThreadPoolExecutor(batch) as pool:
        tokens = sum(pool.map(ask, range(batch)))
    return tokens / (time.monotonic() - began)


def measure(server: VllmServer, batch: int, turns: int, pow_: Json) -> None:
    """Prints one line of the table."""
    turn(server, batch, -1, pow_)
    speeds: dict[bool, list[float]] = {False: [], True: []}
    mined_before = server.metrics()["tensorpow_tokens_total"]
    for number in range(turns):
        # Who goes first takes turns too.
        for mined in (number % 2 == 0, number % 2 == 1):
            speeds[mined].append(turn(server, batch, 2 * number + mined, pow_ if mined else None))
    mined_tokens = server.metrics()["tensorpow_tokens_total"] - mined_before
    if mined_tokens != turns * batch * TOKENS:
        raise AssertionError(f"{mined_tokens:.0f} tokens were mined, {turns * batch * TOKENS} should be")
    ratio = statistics.median(m / s for m, s in zip(speeds[True], speeds[False], strict=True))
    stock, mined_speed = statistics.median(speeds[False]), statistics.median(speeds[True])
    print(f"{batch:>6} {stock:>10.1f} {mined_speed:>10.1f} {ratio:>8.3f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Tokens per second with every row mined.")
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--model", choices=("small", "tiny"), default="small")
    options = parser.parse_args()
    model = small_model() if options.model == "small" else tiny_model()
    env = {"VLLM_ENABLE_POW": "1", "POW_EGRESS_MODE": "broker", "ZMQ_PUSH_PORT": "9"}
    with Layer(stock_venv()) as layer:
        layer.install(*wheels())
        payload = layer.run("-c", PAYLOAD.format(tests=sys.path[0]))

        with VllmServer(layer.python, model, "--no-enable-prefix-caching", env=env) as server:
            print(f"{options.model} model, {TOKENS} tokens a request, {options.turns} turns; tokens/s")
            print(f"{'batch':>6} {'stock':>10} {'mined':>10} {'ratio':>8}")
            for batch in options.batch:
                measure(server, batch, options.turns, json.loads(payload))


# Made by the interpreter that has the package.
PAYLOAD = """
import json, sys
sys.path.insert(0, {tests!r})
from server.payloads import payload
print(json.dumps(payload()))
"""

if __name__ == "__main__":
    main()
