"""A real vLLM that mines, and one that has never heard of it, asked the same questions.

Run by `make test-vllm` through `run`. What a miner relies on: every window that should exist is a proof that
verifies and records what the client got, and nothing else leaves one. What a user relies on: whoever does
not mine, or cannot be mined, gets the tokens of a vLLM without the plugin.
"""

from __future__ import annotations

import json
import sys
import time
import unittest
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

from server.asking import TOPICS, WINDOW, Asked, ask, ask_all, chat, completion, story
from server.collector import Collector
from server.judging import Judging
from server.payloads import payload
from server.places import small_model, stock_venv, tiny_model, vllm_version
from server.vllm_server import Json, VllmServer

MINED = Path(sys.executable)
BLOCK = ("--block-size", "32")  # the smallest that attention on a CPU has
UNCACHED = ("--no-enable-prefix-caching",)
REASON = 'tensorpow_not_mined_total{{reason="{}"}}'


@contextmanager
def mining(
    model: Path, *args: str, dtype: str = "bfloat16", max_model_len: int = 2048, env: Json | None = None
) -> Iterator[tuple[VllmServer, Collector]]:
    """A server with the plugin switched on, and who its proofs are sent to."""
    with Collector() as collector:
        variables = {"VLLM_ENABLE_POW": "1", **collector.settings, **(env or {})}
        with VllmServer(
            MINED, model, *args, env=variables, dtype=dtype, max_model_len=max_model_len
        ) as server:
            print(f"  {model.name}: started in {server.started_in_s:.0f} s", flush=True)
            yield server, collector


class MixedLoad(Judging):
    """Real weights, a cache too small for what is asked of it, prompts longer than a step."""

    def test_every_window_is_a_proof(self) -> None:
        # 30 blocks are 960 positions, and five requests at once want up to 2,800
        crowded = ("--num-gpu-blocks-override", "30", "--max-num-batched-tokens", "48", "--max-num-seqs", "5")
        with mining(small_model(), *BLOCK, *crowded, max_model_len=900) as (server, collector):
            began = time.monotonic()
            run = ask_all(server, self.requests(), at_once=5)
            took = time.monotonic() - began
            server.wait_idle()
            total = self.check_run(collector, run)
            preempted = server.total("vllm:num_preemptions_total")
            tokens = sum(len(asked.tokens) for asked in run)
            print(f"  {tokens} tokens in {took:.0f} s, {total} windows, {preempted:.0f} preemptions")
            self.assertGreater(preempted, 0, "the cache was large enough")
            self.assertGreater(total, 8)
            self.check_counters(server, total)

    def requests(self) -> list[Asked]:
        # no seeds: vLLM on a CPU dies of one in a part of a prefill ("CPU Generator does not use offset")
        draw = (payload(block=bytes([n]) * 32) for n in range(1, 20))
        return [
            completion("long prompt", story(TOPICS[0], 150), 520, next(draw)),
            chat("two windows", TOPICS[1], 512, next(draw)),
            completion("one window", story(TOPICS[2]), 256, next(draw)),
            completion("one token short", story(TOPICS[3], 80), 255, next(draw)),
            chat("streamed", TOPICS[4], 300, next(draw), stream=True),
            completion("nobody mines", story(TOPICS[5]), 300),
            chat("as a string", TOPICS[6], 300, json.dumps(next(draw))),
            completion("log-probabilities", story(TOPICS[7], 60), 280, next(draw), logprobs=2),
            completion("lower temperature", story(TOPICS[8]), 300, next(draw), temperature=0.7, top_k=20),
            completion("min_p", story(TOPICS[9]), 280, next(draw), min_p=0.1, mined=False),
            chat("ends by itself", TOPICS[10], 300, next(draw), ignore_eos=False),
            completion("short", story(TOPICS[11], 200), 20, next(draw)),
        ]

    def check_counters(self, server: VllmServer, total: int) -> None:
        metrics = server.metrics()
        sent = sum(v for k, v in metrics.items() if k.startswith("tensorpow_proofs_sent_total"))
        dropped = {k: v for k, v in metrics.items() if k.startswith("tensorpow_proofs_dropped_total") and v}
        failed = {k: v for k, v in metrics.items() if "self_check" in k and v}
        ours = ("tensorpow_vllm_step_failures_total", "tensorpow_vllm_requests_lost_total")
        self.assertEqual((sent, dropped, failed), (total, {}, {}))
        self.assertEqual({name: metrics[name] for name in ours}, dict.fromkeys(ours, 0))
        self.assertEqual(metrics["tensorpow_sequences_active"], 0)


SCHEMA: Json = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "schema": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


def excluded(pow_: Any) -> dict[str, Asked]:
    """Requests that carry a payload and cannot be mined, by the reason they are counted under."""
    said = story("mountains")
    return {
        "seed": completion("seed", said, 300, pow_, seed=11),
        "several_choices": completion("n = 2", said, 60, pow_, n=2, seed=12),
        "penalty": completion(
            "penalties", said, 60, pow_, presence_penalty=0.6, frequency_penalty=0.2, seed=13
        ),
        "logit_bias": completion("bias", said, 60, pow_, logit_bias={"260": -6}, seed=14),
        "sampler_option": completion("min_p", said, 60, pow_, min_p=0.1, seed=15),
        "grammar": chat("schema", "a city", 40, pow_, response_format=SCHEMA, seed=16, ignore_eos=False),
    }


def wrong() -> dict[str, Any]:
    """Payloads that no verifier takes, by the reason they are counted under."""
    return {
        "payload_block_hash": payload(block_hash="zz" * 32),
        "payload_target": payload(target="ff"),
        "payload_tick": payload(tick=1 << 32),
        "payload_difficulty": payload(difficulty=0),
        "payload_not_json": "{",
        "payload_not_an_object": 5,
        "version_unknown": payload(proof_version=9),
        "identity_unknown": payload(model_identifier=None),
    }


def plain() -> list[Asked]:
    """Requests without a payload."""
    return [
        completion("seeded", story("tides"), 300, seed=1),
        completion("greedy", story("tides"), 64, temperature=0.0),
        completion("its own top-k", story("rivers"), 64, seed=2, top_k=7, top_p=0.8, temperature=1.3),
        chat("chat", "bees", 64, seed=3),
        completion("log-probabilities", story("tea"), 32, seed=4, logprobs=3),
        completion("two choices", story("tea"), 32, seed=5, n=2),
    ]


class BesideStock(Judging):
    """One plugin, many questions, and the answers of a vLLM without it."""

    server: ClassVar[VllmServer]
    collector: ClassVar[Collector]
    theirs: ClassVar[dict[str, Asked]]

    @classmethod
    def setUpClass(cls) -> None:
        # single precision, so that a row is the same number alone and in a batch
        options: Json = {"dtype": "float32"}
        with VllmServer(stock_venv() / "bin" / "python", tiny_model(), *BLOCK, *UNCACHED, **options) as stock:
            asked = [*plain(), *excluded(None).values()]
            cls.theirs = {one.kind: ask(stock, one) for one in asked}
        running = mining(tiny_model(), *BLOCK, *UNCACHED, **options)
        cls.server, cls.collector = cls.enterClassContext(running)

    def counted(self, reason: str) -> float:
        return self.server.metrics().get(REASON.format(reason), 0.0)

    def same(self, asked: Asked) -> None:
        """The tokens are those of the stock server."""
        self.assertEqual(
            (asked.tokens, asked.texts), (self.theirs[asked.kind].tokens, self.theirs[asked.kind].texts)
        )
        self.assertEqual(self.collector.of(asked.id), [])

    def test_without_a_payload_the_tokens_are_vllms(self) -> None:
        for asked in plain():
            with self.subTest(asked.kind):
                self.same(ask(self.server, asked))

    def test_beside_mined_rows_too(self) -> None:
        mined = [
            completion(f"mined {n}", story(TOPICS[n]), 300, payload(block=bytes([n]) * 32)) for n in range(3)
        ]
        # before 0.32 vLLM on a CPU heeds no seed while a row of the batch has none, as mined rows do
        seeds_hold = tuple(map(int, vllm_version().split("."))) >= (0, 32)
        beside = [asked for asked in plain() if seeds_hold or asked.body["temperature"] == 0]
        run = ask_all(self.server, [*mined, *beside], at_once=6)
        for asked in run[len(mined) :]:
            with self.subTest(asked.kind):
                self.same(asked)
        for asked in run[: len(mined)]:
            (proof,) = self.collector.settled(asked.id, 1)
            self.check_proof(proof, asked, 0)

    def test_what_cannot_be_mined_is_served_and_counted(self) -> None:
        for reason, asked in excluded(payload()).items():
            with self.subTest(asked.kind):
                before = self.counted(reason)
                self.same(ask(self.server, asked))
                # every choice of several is a request of its own
                self.assertEqual(self.counted(reason) - before, asked.body.get("n", 1))

    def test_a_wrong_payload_is_served_and_counted(self) -> None:
        for reason, pow_ in wrong().items():
            with self.subTest(reason):
                before = self.counted(reason)
                asked = ask(self.server, completion("seeded", story("tides"), 8, pow_))
                self.assertEqual(len(asked.tokens), 8)
                self.assertEqual(self.counted(reason) - before, 1)

    def test_the_same_context_draws_the_same_tokens(self) -> None:
        def drawn(pow_: Any, **more: Any) -> tuple[list[int], list[Any]]:
            asked = ask(self.server, completion("again", story("paper"), 520, pow_, **more))
            proofs = self.collector.settled(asked.id, 2)
            self.assertEqual(len(proofs), 2)
            recorded = [(p.topk_logits, p.topk_indices, p.sampling_u, p.logsumexp_stats) for p in proofs]
            return asked.tokens, recorded

        once = drawn(payload())
        self.assertEqual(drawn(payload()), once, "same payload, same prompt: same tokens and evidence")
        self.assertEqual(drawn(json.dumps(payload())), once, "as a string")
        self.assertNotEqual(drawn(payload(chunks=2))[0], once[0], "another tick, other draws")

    def test_alone_or_in_a_batch_the_tokens_are_the_same(self) -> None:
        def four() -> list[Asked]:
            draws = [payload(block=bytes([n + 9]) * 32) for n in range(4)]
            return [completion(f"{n}", story(TOPICS[n], 20 * n), 260, draws[n]) for n in range(4)]

        alone = [ask(self.server, asked).tokens for asked in four()]
        together = [asked.tokens for asked in ask_all(self.server, four(), at_once=4)]
        self.assertEqual(alone, together)

    def test_a_client_that_leaves_ends_its_window(self) -> None:
        for kind, leave, windows in (("early", 100, 0), ("in the second window", 330, 1)):
            with self.subTest(kind):
                asked = completion(kind, story("a lighthouse"), 1500, payload(), stream=True)
                asked.leave_after = leave
                ask(self.server, asked)
                self.server.wait_idle()
                self.assertLess(len(asked.tokens), leave + WINDOW)
                proofs = self.collector.settled(asked.id, windows)
                self.assertEqual(len(proofs), windows)
                for index, proof in enumerate(proofs):
                    self.check_proof(proof, asked, index)
        self.assertEqual(self.server.metrics()["tensorpow_sequences_active"], 0)

    def test_prompts_of_one_request_are_mined_each_under_its_id(self) -> None:
        prompts = [story("chess"), story("tea")]
        asked = ask(self.server, completion("two prompts", prompts, 256, payload()))
        first, second = asked.id, f"{asked.id}-1"
        for at, name in enumerate((first, second)):
            (proof,) = self.collector.settled(name, 1)
            self.assertEqual(proof.chosen_tokens, asked.tokens[at * WINDOW : (at + 1) * WINDOW])

    def test_the_older_key(self) -> None:
        asked = completion("older key", story("bees"), 256)
        asked.body["extra_sampling_params"] = {"pow": payload()}
        asked.mined = True
        ask(self.server, asked)
        (proof,) = self.collector.settled(asked.id, 1)
        self.check_proof(proof, asked, 0)


class Admission(Judging):
    """Version 3: every window carries a nonce, and a request that waits for one holds up nobody."""

    def test_windows_are_admitted(self) -> None:
        settings = {"POW_PROOF_VERSION": "3", "POW_V3_ADMISSION_MODE": "always", "POW_V3_GRIND_THREADS": "1"}
        with mining(tiny_model(), *BLOCK, env=settings) as (server, collector):
            draws = [payload(block=bytes([n + 40]) * 32, proof_version=3) for n in range(4)]
            run = [
                completion("two windows", story(TOPICS[0]), 520, draws[0]),
                chat("streamed", TOPICS[1], 300, draws[1], stream=True),
                completion("one window", story(TOPICS[2]), 256, draws[2]),
                completion("not the profile", story(TOPICS[3]), 260, draws[3], temperature=0.9, mined=False),
                completion("nobody mines", story(TOPICS[4]), 300, seed=3),
            ]
            ask_all(server, run, at_once=5)
            server.wait_idle()
            total = self.check_run(collector, run)
            self.assertEqual(total, 4)
            nonces = {proof.admission_nonce for proof in collector.proofs()}
            self.assertEqual(len(nonces - {None}), total, "a nonce of its own for each window")
            for proof in collector.proofs():
                self.assertEqual(proof.version, 3)
                self.assertTrue(proof.is_admitted(1_000_000))
            found = server.metrics()['tensorpow_admission_windows_total{outcome="found"}']
            self.assertGreaterEqual(found, total)


if __name__ == "__main__":
    unittest.main(verbosity=2)
