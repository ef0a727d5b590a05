"""The hooks on this vLLM's own sampler: rows without a payload keep their tokens bit for bit, seeds
and all, and mined rows get theirs, with log-probabilities that fit.
"""

import dataclasses
import unittest
from types import SimpleNamespace
from typing import Any

import tensorpow
import torch  # type: ignore[import-not-found]
from server.payloads import payload
from tensorpow_vllm import v1
from tensorpow_vllm.backends import HostBackend
from tensorpow_vllm.miner import Miner
from tensorpow_vllm.settings import Settings
from vllm.v1.sample import logits_processor  # type: ignore[import-not-found]
from vllm.v1.sample.metadata import SamplingMetadata  # type: ignore[import-not-found]
from vllm.v1.sample.sampler import Sampler  # type: ignore[import-not-found]

# Of 0.10.0 under another name.
PROCESSORS = getattr(logits_processor, "LogitsProcessors", None) or logits_processor.LogitsProcessorManager
VOCAB = 1000
ROWS = 6
# Mined, seeded, mined, greedy, unseeded with another profile, mined.
MINED = (0, 2, 5)


def metadata(logprobs: int | None = None, mined_only: bool = False) -> Any:
    """What vLLM makes of the requests of a batch."""
    greedy = not mined_only
    temperature = torch.tensor([1.0, 0.8, 1.0, 0.0 if greedy else 1.0, 1.3, 1.0])
    values = {
        "temperature": temperature,
        "all_greedy": False,
        "all_random": not greedy,
        "top_k": torch.tensor([50, 40, 50, VOCAB, 20, 50], dtype=torch.int32),
        "top_p": torch.tensor([1.0, 0.9, 1.0, 1.0, 0.95, 1.0]),
        "generators": {1: torch.Generator().manual_seed(11)},
        "max_num_logprobs": logprobs,
        "no_penalties": True,
        "frequency_penalties": torch.zeros(ROWS),
        "presence_penalties": torch.zeros(ROWS),
        "repetition_penalties": torch.ones(ROWS),
        "output_token_ids": [[] for _ in range(ROWS)],
        "bad_words_token_ids": {},
        "logitsprocs": PROCESSORS(),
    }
    fields = {field.name: values.get(field.name) for field in dataclasses.fields(SamplingMetadata)}
    return SamplingMetadata(**fields)


def rows(dtype: Any = torch.float32) -> Any:
    generator = torch.Generator().manual_seed(5)
    return (torch.randn((ROWS, VOCAB), generator=generator) * 3).to(torch.bfloat16).to(dtype)


class Hooked(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = tensorpow.Engine({"POW_EGRESS_MODE": "broker"})
        self.miner = Miner(engine=self.engine, backend=HostBackend(), settings=Settings(), vocab=VOCAB)
        self.addCleanup(self.miner.close)
        hooked: Any = type("Hooked", (Sampler,), {})
        v1.wrap_sampler(hooked)
        self.sampler = hooked()
        batch = SimpleNamespace(req_ids=[f"chatcmpl-{at}" for at in range(ROWS)])
        self.link = v1.Link(SimpleNamespace(input_batch=batch), self.miner)
        vars(self.sampler)[v1.LINK] = self.link

    def begin(self, mined: tuple[int, ...] = MINED) -> list[int]:
        """A step with these rows mined; returns the tokens they have to get."""
        params = SimpleNamespace(
            extra_args={"pow": payload()},
            temperature=1.0,
            top_k=50,
            top_p=1.0,
            repetition_penalty=1.0,
            presence_penalty=0.0,
            frequency_penalty=0.0,
            seed=None,
        )
        news = [
            SimpleNamespace(
                req_id=f"chatcmpl-{at}",
                prompt_token_ids=[at + 1],
                sampling_params=params,
                num_computed_tokens=0,
            )
            for at in mined
        ]
        cached = SimpleNamespace(req_ids=[], num_computed_tokens=[], num_output_tokens=[])
        self.link.begin(
            SimpleNamespace(
                scheduled_new_reqs=news,
                scheduled_cached_reqs=cached,
                num_scheduled_tokens={one.req_id: 1 for one in news},
                total_num_scheduled_tokens=len(news),
                finished_req_ids=set(),
            )
        )
        expected = []
        for at in mined:
            sequence = self.engine.begin(payload(), [at + 1], VOCAB)
            expected.append(sequence.sample(rows()[at].numpy()))
            sequence.end()
        return expected

    def test_rows_without_a_payload_keep_their_tokens_and_generators(self) -> None:
        for dtype in (torch.float32, torch.bfloat16):
            with self.subTest(dtype=dtype):
                stock_metadata, hooked_metadata = metadata(), metadata()
                torch.manual_seed(3)
                stock = Sampler().forward(rows(dtype), stock_metadata).sampled_token_ids.flatten().tolist()
                state = torch.get_rng_state()
                expected = self.begin()
                torch.manual_seed(3)
                hooked = self.sampler.forward(rows(dtype), hooked_metadata).sampled_token_ids
                self.assertEqual((hooked.dtype, tuple(hooked.shape)), (torch.int32, (ROWS, 1)))
                tokens = hooked.flatten().tolist()
                self.assertEqual([tokens[at] for at in MINED], expected)
                others = [at for at in range(ROWS) if at not in MINED]
                self.assertEqual([tokens[at] for at in others], [stock[at] for at in others])
                self.assertTrue(torch.equal(torch.get_rng_state(), state))
                ours, theirs = hooked_metadata.generators[1], stock_metadata.generators[1]
                self.assertTrue(torch.equal(ours.get_state(), theirs.get_state()))
                for at in MINED:
                    self.miner.tracker.drop(f"chatcmpl-{at}", "finished")

    def test_log_probabilities_are_those_of_the_chosen_tokens(self) -> None:
        expected = self.begin()
        made = self.sampler.forward(rows(), metadata(logprobs=3)).logprobs_tensors
        logprobs = torch.log_softmax(rows(), -1)
        for at, token in zip(MINED, expected, strict=True):
            self.assertEqual(int(made.logprob_token_ids[at, 0]), token)
            self.assertAlmostEqual(float(made.logprobs[at, 0]), float(logprobs[at, token]), places=5)
            rank = int((logprobs[at] >= logprobs[at, token]).sum())
            self.assertEqual(int(made.selected_token_ranks[at]), rank)

    def test_a_batch_of_mined_rows_alone(self) -> None:
        everyone = tuple(range(ROWS))
        expected = self.begin(everyone)
        output = self.sampler.forward(rows(torch.bfloat16), metadata(mined_only=True))
        self.assertEqual(output.sampled_token_ids.flatten().tolist(), expected)
        self.assertEqual(output.sampled_token_ids.dtype, torch.int32)

    def test_without_a_mined_row_the_sampler_is_vllms_own(self) -> None:
        torch.manual_seed(9)
        stock = Sampler().forward(rows(), metadata()).sampled_token_ids
        torch.manual_seed(9)
        self.assertTrue(torch.equal(self.sampler.forward(rows(), metadata()).sampled_token_ids, stock))

    def test_logits_that_are_a_view_without_padding(self) -> None:
        expected = self.begin()
        wide = torch.zeros((ROWS, VOCAB + 24))
        wide[:, :VOCAB] = rows()
        tokens = self.sampler.forward(wide[:, :VOCAB], metadata()).sampled_token_ids.flatten().tolist()
        self.assertEqual([tokens[at] for at in MINED], expected)


if __name__ == "__main__":
    unittest.main()
