"""The adapter for model runner V2, on a server in small of its shape. It is refused by name until it
has run on a GPU; this holds it against the rest meanwhile.
"""

import unittest
from types import SimpleNamespace
from typing import Any
from unittest import mock

import world
from tensorpow_vllm import v1, v2
from tensorpow_vllm.refusal import Refused
from test_step import mined
from world import EMPTY, BaseRunner, ModelRunnerOutput, Params, Vllm, World, expected, stock, torch


class Sampler:
    """Called with the batch; draws in `sample`."""

    def __call__(self, logits: Any, input_batch: Any) -> Any:
        sampled, _ = self.sample(logits, input_batch.expanded_idx_mapping)
        return SimpleNamespace(sampled_token_ids=sampled.reshape(-1, 1))

    def sample(self, logits: Any, expanded_idx_mapping: Any) -> tuple[Any, Any]:
        return torch.argmax(logits, -1), None


class Runner(BaseRunner):
    """Makes its sampler late, and answers with tokens that are still on their way."""

    def make_sampler(self) -> Any:
        return None

    def arrive(self, new: Any) -> None:
        # A resumed one comes with all its tokens.
        self.known.setdefault(new.req_id, list(new.prompt_token_ids))

    def execute_model(self, scheduler_output: Any, dummy_run: bool = False) -> Any:
        return super().execute_model(scheduler_output)

    def sample_tokens(self, grammar_output: Any) -> Any:
        order, ends, logits = self.state
        batch = SimpleNamespace(req_ids=order, expanded_idx_mapping=None)
        tokens = self.sampler(logits, batch).sampled_token_ids[:, 0].tolist()
        kept = []
        for one, token in zip(order, tokens, strict=True):
            kept.append([token] if ends[one] == len(self.known[one]) else [])
            self.known[one] += kept[-1]
        return SimpleNamespace(model_runner_output=ModelRunnerOutput(order, kept))


class Scheduler(world.BaseScheduler):
    """Takes the tokens out of what they are on their way in; sends resumed requests as new ones."""

    def schedule(self) -> Any:
        for request in self.waiting:
            request.was_scheduled = False
        return super().schedule()

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> None:
        super().update_from_output(
            scheduler_output, getattr(model_runner_output, "model_runner_output", model_runner_output)
        )


class V2(World):
    def server_of_v2(self, **how: Any) -> Vllm:
        server = self.server(is_patched=False, **how)
        runner: Any = type("GPUModelRunner", (Runner,), {"__init__": Runner.__init__})
        sampler: Any = type("Sampler", (Sampler,), {})
        with mock.patch.object(v2, "HAS_RUN_ON_A_GPU", True):
            v2.install(world.a_module(GPUModelRunner=runner, Sampler=sampler))
        server.runner = runner(world.a_config(), world.CPU)
        self.assertIsNone(server.runner.sampler)
        server.runner.sampler = sampler()
        server.scheduler = Scheduler(how.get("budget", 64), how.get("capacity", 10_000), 16, False)
        return server

    def test_texts_and_proofs_are_those_of_the_other_runner(self) -> None:
        for how in ({}, {"budget": 40, "capacity": 400}):
            with self.subTest(**how):
                server = self.server_of_v2(**how)
                asked = [server.add(f"r{at}", [at + 1] * 30, mined(max_tokens=256)) for at in range(3)]
                other = server.add("other", [9], Params(max_tokens=200))
                server.run()
                self.assertEqual(other.output, stock([9], 200))
                for one in asked:
                    self.assertEqual(one.output, expected(one.prompt_token_ids, 256))
                self.assertEqual(len(self.emitted(server)), 3)
                self.assertEqual(server.scheduler.preemptions > 0, bool(how))
                for file in self.proofs.rglob("*.bin"):
                    file.unlink()

    def test_a_warm_up_is_no_step(self) -> None:
        server = self.server_of_v2()
        server.add("a", [1], mined(max_tokens=5))
        decided = server.scheduler.schedule()
        server.runner.execute_model(decided, dummy_run=True)
        self.assertEqual(server.miner.tracker.following, {})

    def test_an_answer_travels_with_tokens_that_are_on_their_way(self) -> None:
        from tensorpow_vllm.parking import ANNOUNCED, PARKED

        server = self.server_of_v2()
        server.add("a", [1], mined(max_tokens=5))
        decided = server.scheduler.schedule()
        vars(decided)[ANNOUNCED] = []
        server.runner.execute_model(decided)
        output = server.runner.sample_tokens(None)
        self.assertEqual(vars(output.model_runner_output)[PARKED], frozenset())
        self.assertNotIn(PARKED, vars(EMPTY))

    def test_methods_of_another_shape_are_refused(self) -> None:
        runner: Any = type("GPUModelRunner", (BaseRunner,), {})
        with (
            mock.patch.object(v2, "HAS_RUN_ON_A_GPU", True),
            self.assertRaisesRegex(Refused, "sample_tokens"),
        ):
            v2.install(world.a_module(GPUModelRunner=runner, Sampler=Sampler))
        assert v1.LINK


if __name__ == "__main__":
    unittest.main()
