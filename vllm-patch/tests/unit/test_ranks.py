"""Tensor parallelism: every rank feeds the driver's tokens to the model, and only it proves."""

import threading
import unittest
from collections.abc import Callable
from typing import Any
from unittest import mock

from tensorpow_vllm import worker
from tensorpow_vllm.refusal import Refused
from test_step import mined
from world import Params, Vllm, World, expected, stock


class Meeting:
    """Two ranks in two threads, and what the driver says to the other."""

    def __init__(self) -> None:
        self.barrier = threading.Barrier(2, timeout=30)
        self.said: list[int] = []

    def share(self, is_driver: bool, tokens: list[int]) -> list[int]:
        if is_driver:
            self.said = tokens
        self.barrier.wait()
        heard = self.said
        self.barrier.wait()
        assert len(heard) == len(tokens), "the ranks do not agree on who is chosen"
        return heard


class Ranks(World):
    def on_two(self, body: Callable[[Vllm], Any], **how: Any) -> list[Any]:
        """Runs the same server on two ranks, as vLLM does; returns what came of it on each."""
        meeting = Meeting()
        results: list[Any] = [None, None]

        class Rank:
            count = 2

            def __init__(self) -> None:
                self.is_driver = threading.current_thread().name == "rank 0"

            def share(self, tokens: list[int]) -> list[int]:
                return meeting.share(self.is_driver, tokens)

        def run(at: int) -> None:
            server = Vllm(**how)
            results[at] = body(server)
            server.close()

        with mock.patch.object(worker, "_Ranks", Rank):
            threads = [threading.Thread(target=run, args=(at,), name=f"rank {at}") for at in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return results

    def test_all_ranks_have_the_tokens_of_the_driver_and_one_proves(self) -> None:
        def body(server: Vllm) -> Any:
            texts = [
                server.add("a", [1], mined(max_tokens=300)),
                server.add("b", [2], Params(max_tokens=50)),
                server.add("c", [3], mined(max_tokens=40, seed=3)),
            ]
            server.run()
            return [one.output for one in texts], server.miner.engine is not None

        (texts, drives), (other_texts, other_drives) = self.on_two(body, budget=9)
        self.assertEqual(texts, [expected([1], 300), stock([2], 50), stock([3], 40)])
        self.assertEqual(other_texts, texts)
        self.assertEqual((drives, other_drives), (True, False))
        self.assertEqual(len(list(self.proofs.rglob("*.bin"))), 1)

    def test_what_fails_on_the_driver_is_stock_on_all(self) -> None:
        def body(server: Vllm) -> list[int]:
            asked = server.add("a", [1], mined(max_tokens=30))
            for _ in range(5):
                server.step()
            with mock.patch.object(server.miner.backend, "choose", side_effect=MemoryError):
                server.step()
            server.run()
            return asked.output

        with self.assertLogs("vllm.tensorpow", "ERROR"):
            texts = self.on_two(body)
        kept = expected([1], 5)
        self.assertEqual(texts[0], kept + stock([1, *kept], 25))
        self.assertEqual(texts[1], texts[0])

    def test_nonces_differ_by_rank_and_tokens_do_not(self) -> None:
        def body(server: Vllm) -> list[int]:
            from world import shares

            pow_ = shares(difficulty=60_000_000, proof_version=3)
            asked = server.add("a", [1], Params(max_tokens=20, extra_args={"pow": pow_}))
            server.run()
            return asked.output

        with mock.patch.dict(
            "os.environ", {"POW_V3_ADMISSION_MODE": "always", "TENSORPOW_VLLM_STEP_WAIT_S": "5"}
        ):
            texts = self.on_two(body)
        self.assertEqual(len(texts[0]), 20)
        self.assertEqual(texts[0], texts[1])

    def test_a_driver_that_cannot_start_stops_all(self) -> None:
        def body(server: Vllm) -> Any:
            return vars(server.runner)["_tensorpow_link"]

        with (
            mock.patch.dict("os.environ", {"POW_EGRESS_MODE": "nonsense"}),
            self.assertLogs("vllm.tensorpow", "ERROR") as logs,
        ):
            self.assertEqual(self.on_two(body), [None, None])
        self.assertTrue(any("POW_EGRESS_MODE" in line for line in logs.output))

    def test_strict_ends_the_start(self) -> None:
        strict = {"POW_EGRESS_MODE": "nonsense", "TENSORPOW_VLLM_STRICT": "1"}
        with (
            mock.patch.dict("os.environ", strict),
            self.assertLogs("vllm.tensorpow", "ERROR"),
            self.assertRaises(Refused),
        ):
            self.server()


if __name__ == "__main__":
    unittest.main()
