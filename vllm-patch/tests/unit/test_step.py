"""Requests through a whole server in small: the tokens of a mined one are the same whatever happens
around it, its windows become proofs, and an unmined one gets what it would get without the plugin.
"""

import unittest
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import numpy as np
import tensorpow
from payload import payload
from tensorpow_vllm import v1
from world import VOCAB, Params, Vllm, World, expected, model, shares, stock, torch


def mined(**changes: Any) -> Params:
    return Params(extra_args={"pow": shares()}, **changes)


class Texts(World):
    def check(self, server: Vllm, count: int = 300) -> dict[str, list[int]]:
        """Six requests, every second of them mined; their texts."""
        texts = {}
        for number in range(6):
            prompt = list(range(1, 4 + 9 * number))
            params = mined(max_tokens=count) if number % 2 == 0 else Params(max_tokens=count)
            texts[number] = server.add(f"chatcmpl-{number}", prompt, params)
            server.step()
        server.run()
        for number, request in texts.items():
            of = expected if number % 2 == 0 else stock
            with self.subTest(number=number):
                self.assertEqual(request.output, of(request.prompt_token_ids, count))
        return {request.request_id: request.output for request in texts.values()}

    def check_proofs(self, server: Vllm, texts: dict[str, list[int]]) -> None:
        proofs = self.emitted(server)
        self.assertEqual(len(proofs), sum(len(text) // 256 for text in list(texts.values())[::2]))
        for proof in proofs:
            assert proof.message is not None
            text = texts[proof.message.completion_id]
            start = len(proof.prompt_tokens)
            prompt = start - (start - 3) % 9 if start < 256 else start
            window = (start - prompt) // 256 if start >= 256 else 0
            self.assertIn(proof.chosen_tokens, [text[at : at + 256] for at in (0, 256)], window)

    def test_mixed_batches_of_a_runner_of_two_calls(self) -> None:
        server = self.server()
        self.check_proofs(server, self.check(server))

    def test_mixed_batches_of_0_10_0(self) -> None:
        server = self.server(is_old=True)
        self.check_proofs(server, self.check(server))

    def test_chunked_prefills(self) -> None:
        server = self.server(budget=7)
        self.check_proofs(server, self.check(server))

    def test_preemption_throws_away_no_token(self) -> None:
        for is_old in (False, True):
            with self.subTest(is_old=is_old):
                server = self.server(budget=40, capacity=500, is_old=is_old)
                self.check(server)
                self.assertGreater(server.scheduler.preemptions, 5)
                self.assertEqual(server.miner.tracker.lost, 0)

    def test_beside_a_gate_that_parks_nobody(self) -> None:
        server = self.server(has_gate=True, budget=40, capacity=500)
        self.check(server)
        self.assertGreater(server.scheduler.preemptions, 5)

    def test_several_windows_of_a_request(self) -> None:
        server = self.server()
        request = server.add("chatcmpl-1", [1, 2, 3], mined(max_tokens=600))
        server.run()
        proofs = sorted(self.emitted(server), key=lambda proof: len(proof.prompt_tokens))
        self.assertEqual([len(proof.prompt_tokens) for proof in proofs], [3, 259])
        self.assertEqual(proofs[1].prompt_tokens, [1, 2, 3, *request.output[:256]])
        self.assertEqual(proofs[1].chosen_tokens, request.output[256:512])

    def test_without_a_payload_nothing_of_the_plugin_runs(self) -> None:
        server = self.server()
        with mock.patch.object(server.miner.backend, "choose", side_effect=AssertionError):
            request = server.add("chatcmpl-1", [1, 2], Params(max_tokens=20))
            server.run()
        self.assertEqual(request.output, stock([1, 2], 20))
        self.assertEqual(server.miner.failures, 0)

    def test_without_hooks_the_texts_of_unmined_requests_are_the_same(self) -> None:
        texts = []
        for is_patched in (False, True):
            server = self.server(is_patched=is_patched)
            request = server.add("chatcmpl-1", [5, 6], Params(max_tokens=50))
            server.add("chatcmpl-2", [7], mined(max_tokens=50))
            server.run()
            texts.append(request.output)
        self.assertEqual(texts[0], texts[1])

    def test_a_step_of_mined_rows_alone_skips_the_stock_sampler(self) -> None:
        server = self.server()
        server.add("chatcmpl-1", [1], mined(max_tokens=20))
        server.run()
        self.assertEqual(server.runner.sampler.calls, 0)
        server.add("chatcmpl-2", [1], mined(max_tokens=20))
        server.add("chatcmpl-3", [1], Params(max_tokens=20))
        server.run()
        self.assertEqual(server.runner.sampler.calls, 20)

    def test_logits_of_another_type_are_widened(self) -> None:
        server = self.server()
        server.runner.dtype = torch.float16
        request = server.add("chatcmpl-1", [1, 2, 3], mined(max_tokens=30))
        server.add("chatcmpl-2", [1], Params(max_tokens=40))
        server.run()
        self.assertEqual(request.output, expected([1, 2, 3], 30))


class Ends(World):
    def test_an_abort_ends_a_sequence_and_disturbs_nobody(self) -> None:
        server = self.server()
        server.add("a", [1], mined())
        other = server.add("b", [2], mined(max_tokens=100))
        for _ in range(50):
            server.step()
        server.scheduler.finish("a")
        server.run()
        self.assertEqual(other.output, expected([2], 100))
        self.assertEqual(server.metric("tensorpow_sequences_active"), 0)
        self.assertEqual(server.miner.tracker.following, {})

    def test_an_id_that_is_used_again_is_another_request(self) -> None:
        server = self.server()
        server.add("a", [1], mined())
        for _ in range(20):
            server.step()
        server.scheduler.finish("a")
        again = server.add("a", [9, 9], mined(max_tokens=30))
        server.run()
        self.assertEqual(again.output, expected([9, 9], 30))
        self.assertEqual(server.metric("tensorpow_sequences_started_total"), 2)

    def test_a_session_that_goes_on_stops_mining(self) -> None:
        server = self.server()
        request = server.add("a", [1], mined(max_tokens=60))
        for _ in range(20):
            server.step()
        tokens = list(request.output)
        request.prompt_token_ids, request.output = [1, *tokens, 7, 7], []
        request.was_scheduled, request.computed = False, 0
        server.scheduler.running.remove(request)
        server.scheduler.waiting.append(request)
        server.run()
        self.assertEqual(request.output, stock([1, *tokens, 7, 7], 60))
        self.assertEqual(server.miner.tracker.lost, 1)
        ended = 'tensorpow_sequences_ended_total{reason="continuity_lost"}'
        self.assertEqual(server.metric(ended), 1)

    def test_tokens_that_the_engine_takes_back_end_the_mining(self) -> None:
        server = self.server()
        request = server.add("a", [1], mined(max_tokens=60))
        for _ in range(20):
            server.step()
        del request.output[-3:]
        del server.runner.known["a"][-3:]
        request.computed -= 3
        kept = list(request.output)
        server.run()
        self.assertEqual(request.output, kept + stock([1, *kept], 60 - len(kept)))
        self.assertEqual(server.miner.tracker.lost, 1)

    def test_tokens_chosen_elsewhere_end_the_mining(self) -> None:
        server = self.server()
        request = server.add("a", [1], mined(max_tokens=60))
        for _ in range(10):
            server.step()
        # As a rejection sampler does: the sampler is not called.
        sampler = server.runner.sampler
        server.runner.sampler = lambda logits, sampling_metadata: torch.argmax(logits, -1)
        server.step()
        server.runner.sampler = sampler
        kept = list(request.output)
        server.run()
        self.assertEqual(request.output, kept + stock([1, *kept], 60 - len(kept)))
        self.assertEqual(server.miner.tracker.lost, 1)

    def test_a_row_that_cannot_be_mined_goes_on_with_the_stock_sampler(self) -> None:
        server = self.server()
        request = server.add("a", [1], mined(max_tokens=40))
        other = server.add("b", [2], mined(max_tokens=40))

        def broken(tokens: list[int], width: int = VOCAB) -> Any:
            row = model(tokens, width)
            if tokens[0] == 1 and len(tokens) >= 10:
                row[np.argmin(row)] = np.inf
            return row

        with mock.patch("world.model", broken):
            server.run()
        kept = request.output[:9]
        self.assertEqual(kept, expected([1], 9))
        self.assertEqual(request.output[9], int(broken([1, *kept]).argmax()))
        self.assertEqual(other.output, expected([2], 40))
        stopped = 'tensorpow_sequences_stopped_total{reason="logits_infinite"}'
        self.assertEqual(server.metric(stopped), 1)

    def test_whatever_fails_in_a_step_the_server_goes_on(self) -> None:
        server = self.server()
        request = server.add("a", [1], mined(max_tokens=40))
        for _ in range(5):
            server.step()
        with (
            mock.patch.object(server.miner.backend, "choose", side_effect=MemoryError("no memory")),
            self.assertLogs("vllm.tensorpow", "ERROR"),
        ):
            server.step()
        server.run()
        kept = request.output[:5]
        self.assertEqual(request.output, kept + stock([1, *kept], 35))
        self.assertEqual(server.miner.failures, 1)

    def test_an_engine_that_was_closed_mines_nothing_and_serves(self) -> None:
        server = self.server()
        server.miner.close()
        request = server.add("a", [1], mined(max_tokens=10))
        with self.assertLogs("vllm.tensorpow", "ERROR"):
            server.run()
        self.assertEqual(request.output, stock([1], 10))


class Beside(World):
    """What a sampler is asked beside tokens."""

    def test_with_log_probabilities_the_stock_sampler_runs_and_its_tokens_are_replaced(self) -> None:
        server = self.server()
        server.add("a", [1], mined(max_tokens=5))
        decided = server.scheduler.schedule()
        self.assertIsNone(server.runner.execute_model(decided))
        _, _, logits = server.runner.state
        metadata = SimpleNamespace(max_num_logprobs=3, shift=0)
        tokens = server.runner.sampler(logits, metadata).tolist()
        self.assertEqual(tokens, expected([1], 1))
        self.assertEqual(server.runner.sampler.calls, 1)

    def test_a_way_through_the_sampler_that_chooses_by_itself_is_overwritten(self) -> None:
        server = self.server()
        sampler = server.runner.sampler
        rows = torch.from_numpy(np.array([model([1]), model([2])]))

        def fused(logits: Any, sampling_metadata: Any) -> Any:
            return SimpleNamespace(sampled_token_ids=torch.tensor([[0], [0]], dtype=torch.int32))

        kind: Any = type("Fused", (type(sampler),), {"forward": staticmethod(fused)})
        kind.forward = lambda self, logits, sampling_metadata: fused(logits, sampling_metadata)
        v1.wrap_sampler(kind)
        other = kind()
        vars(other)[v1.LINK] = vars(sampler)[v1.LINK]
        server.add("a", [1], mined(max_tokens=5))
        server.add("b", [2], Params(max_tokens=5))
        server.runner.execute_model(server.scheduler.schedule())
        server.runner.input_batch.req_ids = ["a", "b"]
        output = other.forward(rows, SimpleNamespace(max_num_logprobs=None, shift=0))
        self.assertEqual(output.sampled_token_ids.tolist(), [expected([1], 1), [0]])

    def test_other_calls_of_the_sampler_pass(self) -> None:
        # As a warm-up does, with rows that are no request's.
        server = self.server()
        rows = torch.from_numpy(np.array([model([1]), model([2])]))
        tokens = server.runner.sampler(rows, SimpleNamespace(max_num_logprobs=None, shift=0))
        self.assertEqual(tokens.tolist(), [int(model([one]).argmax()) for one in (1, 2)])

    def test_rows_that_are_not_one_for_each_request_are_not_mined(self) -> None:
        server = self.server()
        server.add("a", [1], mined(max_tokens=5))
        server.runner.execute_model(server.scheduler.schedule())
        rows = torch.from_numpy(np.array([model([1]), model([2])]))
        server.runner.sampler(rows, SimpleNamespace(max_num_logprobs=None, shift=0))
        self.assertEqual(server.miner.tracker.lost, 1)

    def test_payloads_by_every_door_give_the_same_text(self) -> None:
        pow_ = payload()
        doors: list[dict[str, Any]] = [
            {"pow": pow_},
            {"pow": tensorpow_json(pow_)},
            {"extra_sampling_params": {"pow": pow_}},
            {"vllm_xargs": {"pow": tensorpow_json(pow_)}},
            {"pow": None, "extra_sampling_params": {"pow": tensorpow_json(pow_)}},
        ]
        for door in doors:
            with self.subTest(door=list(door)):
                server = self.server()
                request = server.add("a", [4, 5], Params(max_tokens=20, extra_args=door))
                server.run()
                self.assertEqual(request.output, expected([4, 5], 20))


def tensorpow_json(pow_: dict[str, Any]) -> str:
    import json

    return json.dumps(pow_)


class Excluded(World):
    """What is served but not mined, each by its reason. spec: sampler §1"""

    CASES: tuple[tuple[str, dict[str, Any], dict[str, Any]], ...] = (
        ("grammar", {"structured_outputs": {"json": {}}}, {}),
        ("grammar", {"guided_decoding": {"regex": "a"}}, {}),
        ("several_choices", {"n": 2}, {}),
        ("several_choices", {}, {"req_id": "0_chatcmpl-1"}),
        ("penalty", {"presence_penalty": 0.1}, {}),
        ("penalty", {"frequency_penalty": -0.1}, {}),
        ("penalty", {"repetition_penalty": 1.1}, {}),
        ("logit_bias", {"logit_bias": {3: 1.0}}, {}),
        ("sampler_option", {"min_p": 0.05}, {}),
        ("sampler_option", {"min_tokens": 5}, {}),
        ("sampler_option", {"allowed_token_ids": [1, 2]}, {}),
        ("sampler_option", {"allowed_token_ids": []}, {}),
        ("sampler_option", {"bad_words": ["bad"]}, {}),
        ("sampler_option", {"logits_processors": [print]}, {}),
        ("seed", {"seed": 0}, {}),
        ("reasoning_budget", {"thinking_token_budget": 10}, {}),
        ("adapter", {}, {"lora_request": "an adapter"}),
        ("multimodal", {}, {"mm_features": ["an image"]}),
        ("multimodal", {}, {"prompt_embeds": "a tensor"}),
        ("not_completion", {}, {"pooling_params": "pooling"}),
        ("not_completion", {}, {"pooling_params": "pooling"}),
        ("excluded_other", {"novelty": 1}, {}),
        ("temperature", {"temperature": 0.0}, {}),
        ("temperature", {"temperature": 2.5}, {}),
        ("top_k", {"top_k": 0}, {}),
        ("top_k", {"top_k": -1}, {}),
        ("top_k", {"top_k": 51}, {}),
        ("top_p", {"top_p": 0.05}, {}),
        ("empty_prompt", {}, {"prompt": []}),
        ("prompt_token", {}, {"prompt": [1, -1]}),
    )

    def test_each_is_counted_by_its_reason_and_gets_the_stock_text(self) -> None:
        for number, (label, params, request) in enumerate(self.CASES):
            has_gate = number % 2 == 1 and "prompt" not in request
            with self.subTest(label=label, params=params, request=request, has_gate=has_gate):
                server = self.server(has_gate=has_gate)
                more = dict(request)
                req_id, prompt = more.pop("req_id", "chatcmpl-1"), more.pop("prompt", [1, 2, 3])
                with mock.patch("world.model", model_of_any):
                    asked = server.add(req_id, prompt, mined(max_tokens=5, **params), **more)
                    server.run() if prompt else server.runner.execute_model(arriving(asked))
                    if prompt:
                        tokens: list[int] = []
                        for _ in range(5):
                            tokens.append(int(model_of_any(prompt + tokens).argmax()))
                        self.assertEqual(asked.output, tokens)
                counter = f'tensorpow_not_mined_total{{reason="{label}"}}'
                self.assertEqual(server.metric(counter), 1)
                self.assertEqual(server.metric("tensorpow_tokens_total"), 0)
                server.close()

    def test_what_leaves_the_distribution_alone_is_mined(self) -> None:
        for params in ({"logprobs": 5}, {"prompt_logprobs": 2}, {"max_tokens": 7}):
            with self.subTest(params=params):
                server = self.server()
                asked = server.add("a", [1, 2], mined(**{"max_tokens": 5, **params}))
                server.run()
                count = len(asked.output)
                self.assertEqual(asked.output, expected([1, 2], count))

    def test_payloads_that_cannot_be_read_are_counted(self) -> None:
        for label, pow_ in [
            ("invalid_argument", 7),
            ("payload_unreadable", "{"),
            ("vdf", payload(vdf="")),
        ]:
            with self.subTest(label=label):
                server = self.server()
                asked = server.add("a", [1], Params(max_tokens=3, extra_args={"pow": pow_}))
                server.run()
                self.assertEqual(asked.output, stock([1], 3))
                assert server.miner.engine is not None
                lines = server.miner.engine.metrics().splitlines()
                counts = [one for one in lines if one.startswith("tensorpow_not_mined") and one[-2:] == " 1"]
                self.assertEqual(len(counts), 1, counts)


def model_of_any(tokens: list[int], width: int = VOCAB) -> Any:
    return model([abs(token) for token in tokens], width)


def arriving(request: Any) -> Any:
    """A step in which a request arrives that no scheduler would schedule."""
    from world import CachedRequestData, NewRequestData, SchedulerOutput

    new = NewRequestData("chatcmpl-1", [], request.sampling_params, 0, None, [], None, None)
    return SchedulerOutput([new], CachedRequestData(), {"chatcmpl-1": 0}, 0, set(), [0])


class Audits(World):
    def test_a_request_without_top_k_is_audited_at_fifty(self) -> None:
        for pow_ in (payload(audit_emit=True), tensorpow_json(payload(audit_emit=True))):
            server = self.server()
            asked = server.add("a", [1], Params(top_k=0, max_tokens=20, extra_args={"pow": pow_}))
            server.run()
            self.assertEqual(asked.output, expected([1], 20, pow_))


class Identity(World):
    env: ClassVar[dict[str, str]] = {"POW_PROOF_VERSION": "2"}

    def test_the_precision_is_the_models_where_the_payload_has_none(self) -> None:
        server = self.server()
        pow_ = shares()
        del pow_["compute_precision"]
        server.add("a", [1], Params(max_tokens=256, extra_args={"pow": pow_}))
        server.run()
        (proof,) = self.emitted(server)
        self.assertEqual(proof.compute_precision, "bf16")

    def test_another_version_than_the_stamp_is_not_mined(self) -> None:
        server = self.server()
        asked = server.add("a", [1], Params(max_tokens=3, extra_args={"pow": payload(proof_version=3)}))
        server.run()
        self.assertEqual(asked.output, stock([1], 3))
        self.assertEqual(server.metric("tensorpow_tokens_total"), 0)


if __name__ == "__main__":
    assert tensorpow
    unittest.main()
