"""Windows of version 3 wait for their nonce: the request is left out of steps, others go on, and
patience has an end.
"""

import time
import unittest
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

from world import Params, Request, Vllm, World, shares, stock

EASY = 60_000_000
"""Difficulty of one expected try."""
ENDLESS = 1
"""Difficulty of sixty million."""


def asking(difficulty: int, **params: Any) -> Params:
    pow_ = shares(difficulty=difficulty, proof_version=3)
    return Params(extra_args={"pow": pow_}, **params)


class Parking(World):
    env: ClassVar[dict[str, str]] = {
        "POW_PROOF_VERSION": "3",
        "POW_V3_ADMISSION_MODE": "always",
        "POW_V3_GRIND_THREADS": "1",
        "TENSORPOW_VLLM_PARK_S": "0.5",
    }

    def served(self, server: Vllm) -> set[str]:
        """Who is computed in a step."""
        return set(server.step().num_scheduled_tokens)

    def test_every_window_has_a_nonce_and_nobody_lost_a_token(self) -> None:
        for how in ({}, {"budget": 30, "capacity": 700}, {"is_old": True, "seats": 2}):
            with self.subTest(**how):
                server = self.server(has_gate=True, **how)
                asked = [server.add(f"r{at}", [at + 1] * 20, asking(EASY, max_tokens=520)) for at in range(3)]
                other = server.add("other", [7], Params(max_tokens=300))
                server.run()
                self.assertEqual(other.output, stock([7], 300))
                proofs = self.emitted(server)
                self.assertEqual(len(proofs), 6)
                for proof in proofs:
                    self.assertIsNotNone(proof.admission_nonce)
                    self.assertTrue(proof.is_admitted(EASY))
                    proof_of = [one.output for one in asked]
                    windows = [text[at : at + 256] for text in proof_of for at in (0, 256)]
                    self.assertIn(proof.chosen_tokens, windows)
                self.assertEqual(server.miner.tracker.lost, 0)
                for file in self.proofs.rglob("*.bin"):
                    file.unlink()

    def test_a_request_that_waits_is_left_out_and_the_others_go_on(self) -> None:
        server = self.server(has_gate=True)
        waiting = server.add("waiting", [1], asking(ENDLESS, max_tokens=10))
        other = server.add("other", [2], Params(max_tokens=100_000))
        started = time.monotonic()
        for _ in range(20):
            self.assertLessEqual(self.served(server), {"other"})
        self.assertEqual(waiting.output, [])
        self.assertGreaterEqual(len(other.output), 18)
        self.assertEqual(server.miner.waiting, 1)
        while not waiting.output:
            server.step()
        self.assertGreaterEqual(time.monotonic() - started, 0.5)
        if "other" in server.scheduler.requests:
            server.scheduler.finish("other")
        server.run()
        given_up = 'tensorpow_admission_windows_total{outcome="given_up"}'
        self.assertEqual(server.metric(given_up), 1)
        self.assertEqual(len(waiting.output), 10)

    def test_a_running_request_waits_at_its_next_window_and_keeps_its_row(self) -> None:
        server = self.server(has_gate=True, seats=2)
        first = server.add("first", [1], asking(EASY, max_tokens=300))
        while len(first.output) < 255:
            server.step()
        # From here on no nonce is found.
        progress = server.miner.tracker.following["first"]
        progress.sequence, sequence = mock.Mock(wraps=progress.sequence), progress.sequence
        progress.sequence.ready = lambda wait_s=0.0: False
        with mock.patch.object(server.miner.backend, "choose", lambda e, s, g, r: [sequence.sample(g[r[0]])]):
            server.step()
        server.add("second", [2], Params(max_tokens=50))
        server.add("third", [3], Params(max_tokens=50))
        for _ in range(30):
            self.assertLessEqual(self.served(server), {"second"})
        self.assertEqual([one.request_id for one in server.scheduler.running][:1], ["first"])
        self.assertEqual(server.scheduler.max_num_running_reqs, 2)
        progress.sequence = sequence
        server.run()
        self.assertEqual(len(first.output), 300)

    def test_what_is_computed_for_all_is_not_shared_while_some_are_left_out(self) -> None:
        server = self.server(has_gate=True)
        server.add("a", [1], Params(max_tokens=50))
        server.step()
        self.assertEqual(server.step().num_common_prefix_blocks, [3])
        gate = vars(server.scheduler)["_tensorpow_gate"]
        gate.parked = frozenset({"a"})
        self.assertEqual(server.step().num_common_prefix_blocks, [0])

    def test_an_abort_while_waiting(self) -> None:
        server = self.server(has_gate=True)
        server.add("before", [1], asking(ENDLESS))
        server.scheduler.finish("before")
        server.step()
        server.add("after", [1], asking(ENDLESS))
        for _ in range(3):
            server.step()
        server.scheduler.finish("after")
        server.step()
        self.assertEqual(server.miner.tracker.following, {})
        self.assertEqual(server.metric("tensorpow_admission_searches"), 0)
        server.step()
        self.assertEqual(server.miner.waiting, 0)

    def test_requests_that_are_not_mined_do_not_wait_for_anything(self) -> None:
        server = self.server(has_gate=True)
        excluded = server.add("a", [1], asking(ENDLESS, seed=1, max_tokens=5))
        version2 = server.add("b", [1], Params(max_tokens=5, extra_args={"pow": shares(proof_version=2)}))
        audit = server.add("c", [1], Params(max_tokens=5, extra_args={"pow": shares(audit_emit=True)}))
        server.step()
        for _ in range(5):
            server.step()
        self.assertEqual([len(one.output) for one in (excluded, version2, audit)], [5, 5, 5])

    def test_nothing_to_do_is_not_a_busy_loop(self) -> None:
        server = self.server(has_gate=True)
        server.add("a", [1], asking(ENDLESS))
        server.step()
        started = time.monotonic()
        for _ in range(10):
            server.step()
        self.assertGreater(time.monotonic() - started, 0.04)

    def test_without_a_gate_a_step_waits_a_little_and_goes_on(self) -> None:
        server = self.server()
        asked = server.add("a", [1], asking(ENDLESS, max_tokens=5))
        easy = server.add("b", [2], asking(EASY, max_tokens=5))
        started = time.monotonic()
        server.step()
        self.assertLess(time.monotonic() - started, 0.4)
        server.run()
        self.assertEqual((len(asked.output), len(easy.output)), (5, 5))
        given_up = 'tensorpow_admission_windows_total{outcome="given_up"}'
        self.assertGreaterEqual(server.metric(given_up), 1)

    def test_a_process_that_does_not_mine_makes_nobody_wait(self) -> None:
        server = self.server(has_gate=True)
        vars(server.runner)["_tensorpow_link"] = vars(server.runner.sampler)["_tensorpow_link"] = None
        asked = server.add("a", [1], asking(ENDLESS, max_tokens=5))
        with self.assertLogs("vllm.tensorpow", "WARNING"):
            server.run()
        self.assertEqual(asked.output, stock([1], 5))
        later = server.add("b", [1], asking(ENDLESS, max_tokens=5))
        self.assertEqual(self.served(server), {"b"})
        server.run()
        self.assertEqual(later.output, stock([1], 5))


class Queues(unittest.TestCase):
    def test_the_order_of_both_queues_is_kept(self) -> None:
        from tensorpow_vllm.parking import Aside, Gate
        from world import Queue

        params = Params()
        requests = [Request(f"r{at}", [1], params) for at in range(6)]
        scheduler = SimpleNamespace(
            running=requests[:3], waiting=Queue(requests[3:]), max_num_running_reqs=8, max_num_active_reqs=5
        )
        gate = Gate()
        gate.parked = frozenset({"r0", "r2", "r3", "r4", "gone"})
        aside = Aside(scheduler, gate)
        self.assertEqual((scheduler.running, list(scheduler.waiting)), (requests[1:2], requests[5:]))
        self.assertEqual((scheduler.max_num_running_reqs, scheduler.max_num_active_reqs), (6, 3))
        aside.put_back()
        self.assertEqual((scheduler.running, list(scheduler.waiting)), (requests[:3], requests[3:]))
        self.assertEqual((scheduler.max_num_running_reqs, scheduler.max_num_active_reqs), (8, 5))

    def test_a_scheduler_of_another_shape_is_refused(self) -> None:
        from tensorpow_vllm import parking
        from tensorpow_vllm.refusal import Refused

        class Other:
            def schedule(self) -> None: ...

        with self.assertRaisesRegex(Refused, "add_request"):
            parking.check(Other)


if __name__ == "__main__":
    unittest.main()
