"""The patched server without the library against the stock server: a pow payload changes no answer.

Also the exclusion table, read off the stub's counters.
"""

from __future__ import annotations

import contextlib
import tempfile
import threading
import unittest
from pathlib import Path
from typing import Any, ClassVar

from llama_server import Json, LlamaServer, stock_binary, stub_binary
from tiny_lora import write_tiny_lora

POW: Json = {"block_hash": "00" * 32, "tick": 1, "vdf": "ab", "request_id": 7, "difficulty": 1000000}

# everything a client may send as `pow`; all are answered, the library judges them
SPELLINGS: dict[str, Any] = {
    "object": POW,
    "empty object": {},
    "string": '{"tick": 1}',
    "empty string": "",
    "no JSON at all": "} not json {",
    "number": 5,
    "float": 1e300,
    "true": True,
    "array": [1, "a", {"b": None}],
    "deep": {"a": {"b": {"c": [[[[]]]]}}},
    "odd text": {"block_hash": '\u0000\ud7ff\U0001f600"\\'},
}

SCHEMA: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "n": {"type": "integer"}},
    "required": ["city", "n"],
}
TOOL: Json = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"x": {"type": "string"}}}},
}
CHAT: Json = {"messages": [{"role": "user", "content": "Name three rivers."}], "max_tokens": 24}
TEXT: Json = {"prompt": "The river runs through the", "n_predict": 24}

SAME_ANSWER: dict[str, tuple[str, Json]] = {
    "greedy": ("/completion", {**TEXT, "temperature": 0}),
    "seeded": ("/completion", {**TEXT, "temperature": 0.9, "seed": 7}),
    "server defaults, seeded": ("/v1/completions", {"prompt": "Once", "max_tokens": 24, "seed": 3}),
    "chat, seeded": ("/v1/chat/completions", {**CHAT, "seed": 11}),
    "profile of v3": (
        "/v1/chat/completions",
        {**CHAT, "temperature": 1.0, "top_k": 50, "top_p": 1.0, "repetition_penalty": 1.0, "seed": 5},
    ),
    "responses": ("/v1/responses", {"input": "Name a river.", "max_output_tokens": 16, "seed": 2}),
    "json_schema": (
        "/v1/chat/completions",
        {**CHAT, "seed": 4, "response_format": {"type": "json_schema", "json_schema": {"schema": SCHEMA}}},
    ),
    "json_object": ("/v1/chat/completions", {**CHAT, "seed": 4, "response_format": {"type": "json_object"}}),
    "grammar": ("/completion", {**TEXT, "seed": 4, "grammar": 'root ::= "yes" | "no"'}),
    "tools": ("/v1/chat/completions", {**CHAT, "seed": 4, "tools": [TOOL]}),
    "n = 2": ("/v1/chat/completions", {**CHAT, "seed": 6, "n": 2}),
    "logprobs": ("/v1/chat/completions", {**CHAT, "seed": 6, "logprobs": True, "top_logprobs": 3}),
    "n_probs": ("/completion", {**TEXT, "seed": 6, "n_probs": 4}),
    "n_probs after sampling": ("/completion", {**TEXT, "seed": 6, "n_probs": 4, "post_sampling_probs": True}),
    "stop word": ("/completion", {**TEXT, "seed": 6, "stop": ["e"]}),
    "penalties": ("/completion", {**TEXT, "seed": 6, "repeat_penalty": 1.3, "presence_penalty": 0.5}),
    "logit_bias": ("/completion", {**TEXT, "seed": 6, "logit_bias": [[260, -5.0]]}),
    "mirostat": ("/completion", {**TEXT, "seed": 6, "mirostat": 2}),
    "ignore_eos": ("/completion", {**TEXT, "seed": 6, "ignore_eos": True, "n_predict": 80}),
    "several prompts": ("/v1/completions", {"prompt": ["One", "Two"], "max_tokens": 12, "seed": 8}),
    "empty prompt": ("/completion", {"prompt": "", "n_predict": 4, "seed": 8}),
}

# what the request adds to a mined profile -> the label it is counted under
PROFILE: Json = {"prompt": "The river", "n_predict": 1, "temperature": 1.0, "top_k": 50, "top_p": 1.0}
MINED = "no_library"
EXCLUSIONS: dict[str, tuple[Json, str]] = {
    "nothing": ({}, MINED),
    "grammar": ({"grammar": 'root ::= "a"'}, "grammar"),
    "json_schema": ({"json_schema": SCHEMA}, "grammar"),
    "empty grammar": ({"grammar": ""}, MINED),
    "n = 2": ({"n": 2}, "several_choices"),
    "n_cmpl = 2": ({"n_cmpl": 2}, "several_choices"),
    "n = 1": ({"n": 1}, MINED),
    "repeat_penalty": ({"repeat_penalty": 1.1}, "penalty"),
    "repeat_penalty neutral": ({"repeat_penalty": 1.0}, MINED),
    "repeat_penalty over no tokens": ({"repeat_penalty": 1.1, "repeat_last_n": 0}, MINED),
    "presence_penalty": ({"presence_penalty": 0.2}, "penalty"),
    "frequency_penalty": ({"frequency_penalty": -0.2}, "penalty"),
    "frequency_penalty neutral": ({"frequency_penalty": 0}, MINED),
    "dry": ({"dry_multiplier": 0.8}, "penalty"),
    "dry neutral": ({"dry_multiplier": 0.0, "dry_base": 2.0}, MINED),
    "repetition_penalty is no number": ({"repetition_penalty": "1.2"}, "penalty"),
    "logit_bias": ({"logit_bias": {"260": -3}}, "logit_bias"),
    "logit_bias, banned token": ({"logit_bias": [[260, False]]}, "logit_bias"),
    "logit_bias empty": ({"logit_bias": {}}, MINED),
    "logit_bias of nothing": ({"logit_bias": {"260": 0}}, MINED),
    "ignore_eos": ({"ignore_eos": True}, MINED),
    "ignore_eos and logit_bias": ({"ignore_eos": True, "logit_bias": {"260": -3}}, "logit_bias"),
    "ignore_eos and empty logit_bias": ({"ignore_eos": True, "logit_bias": []}, MINED),
    "min_p": ({"min_p": 0.2}, "sampler_option"),
    "min_p neutral": ({"min_p": 0.0}, MINED),
    "min_p as the server's default": ({"min_p": 0.05}, MINED),
    "typical_p": ({"typical_p": 0.5}, "sampler_option"),
    "typical_p neutral": ({"typical_p": 1.0}, MINED),
    "top_n_sigma": ({"top_n_sigma": 1.5}, "sampler_option"),
    "top_n_sigma neutral": ({"top_n_sigma": -1}, MINED),
    "xtc": ({"xtc_probability": 0.5}, "sampler_option"),
    "xtc out of reach": ({"xtc_probability": 0.5, "xtc_threshold": 0.6}, MINED),
    "dynatemp": ({"dynatemp_range": 0.5}, "sampler_option"),
    "dynatemp neutral": ({"dynatemp_range": 0, "dynatemp_exponent": 2}, MINED),
    "mirostat": ({"mirostat": 1}, "sampler_option"),
    "mirostat neutral": ({"mirostat": 0, "mirostat_tau": 3}, MINED),
    "adaptive": ({"adaptive_target": 0.5}, "sampler_option"),
    "min_keep": ({"min_keep": 3}, "sampler_option"),
    "samplers": ({"samplers": ["top_k", "temperature"]}, "sampler_option"),
    "seed": ({"seed": 0}, "seed"),
    "seed random": ({"seed": -1}, MINED),
    "seed null": ({"seed": None}, MINED),
    "reasoning budget": ({"reasoning_budget_tokens": 5}, "reasoning_budget"),
    "reasoning budget unlimited": ({"reasoning_budget_tokens": -1}, MINED),
    "reasoning control": ({"reasoning_control": True}, "reasoning_budget"),
    "n_cache_reuse": ({"n_cache_reuse": 4}, "context_shift"),
    "n_probs": ({"n_probs": 5}, MINED),
    "stop words": ({"stop": ["x"]}, MINED),
    "backend_sampling": ({"backend_sampling": True}, MINED),
    "several at once: the first counts": ({"seed": 1, "n": 2, "min_p": 0.3}, "several_choices"),
}

# what differs between any two runs of one server: names, times, which slot was free and what it held
VOLATILE = ("id", "created", "created_at", "completed_at", "timings", "id_slot", "tokens_cached")


def stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: stable(v) for k, v in value.items() if k not in VOLATILE}
    if isinstance(value, list):
        return [stable(v) for v in value]
    return value


def with_pow(body: Json, pow_value: Any = POW, key: str = "extra_sampling_params") -> Json:
    return {**body, key: {"pow": pow_value, "other": 1}}


class StubAgainstStock(unittest.TestCase):
    stock: ClassVar[LlamaServer]
    stub: ClassVar[LlamaServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.stock = cls.enterClassContext(LlamaServer(stock_binary()))
        cls.stub = cls.enterClassContext(LlamaServer(stub_binary()))

    def reasons(self, server: LlamaServer | None = None) -> dict[str, int]:
        prefix = 'tensorpow_not_mined_total{reason="'
        return {
            name[len(prefix) : -2]: int(value)
            for name, value in (server or self.stub).metrics().items()
            if name.startswith(prefix)
        }

    def counted(self, body: Json, server: LlamaServer | None = None) -> dict[str, int]:
        """The counters that a request with a payload moves."""
        target = server or self.stub
        before = self.reasons(target)
        status, answer = target.post("/completion", with_pow(body))
        self.assertEqual(status, 200, answer)
        after = self.reasons(target)
        return {reason: n - before[reason] for reason, n in after.items() if n != before[reason]}

    def test_same_answer_without_and_with_pow(self) -> None:
        for name, (path, case) in SAME_ANSWER.items():
            with self.subTest(name):
                # a cached prompt is computed in another batch shape, which moves the last bits of logits
                body = {**case, "cache_prompt": False}
                status, expected = self.stock.post(path, body)
                self.assertEqual(status, 200, expected)
                for key in (None, "extra_sampling_params", "vllm_xargs"):
                    sent = body if key is None else with_pow(body, key=key)
                    status, answer = self.stub.post(path, sent)
                    self.assertEqual(status, 200, answer)
                    self.assertEqual(stable(answer), stable(expected), key)

    def test_every_spelling_of_pow_is_answered(self) -> None:
        body = {**TEXT, "temperature": 0, "n_predict": 4}
        _, expected = self.stock.post("/completion", body)
        for name, value in SPELLINGS.items():
            for key in ("extra_sampling_params", "vllm_xargs"):
                with self.subTest(name, key=key):
                    before = sum(self.reasons().values())
                    status, answer = self.stub.post("/completion", with_pow(body, value, key))
                    self.assertEqual(status, 200, answer)
                    self.assertEqual(answer["content"], expected["content"])
                    self.assertEqual(sum(self.reasons().values()), before + 1, "not counted")

    def test_absent_pow_is_not_counted(self) -> None:
        before = self.reasons()
        parents: tuple[Any, ...] = (None, {}, {"pow": None}, {"other": 1}, [], "text", 5)
        for extra in parents:
            for key in ("extra_sampling_params", "vllm_xargs"):
                with self.subTest(extra=extra, key=key):
                    status, answer = self.stub.post("/completion", {**TEXT, "n_predict": 1, key: extra})
                    self.assertEqual(status, 200, answer)
        self.assertEqual(self.reasons(), before)

    def test_exclusion_table(self) -> None:
        for name, (extra, label) in EXCLUSIONS.items():
            with self.subTest(name):
                choices = extra.get("n", extra.get("n_cmpl", 1))
                self.assertEqual(self.counted({**PROFILE, **extra}), {label: choices})

    def test_tools_are_excluded_unless_switched_off(self) -> None:
        for choice, label in (("auto", "grammar"), ("required", "grammar"), ("none", MINED)):
            with self.subTest(choice):
                before = self.reasons()
                body = {**CHAT, "max_tokens": 1, "tools": [TOOL], "tool_choice": choice}
                status, answer = self.stub.post("/v1/chat/completions", with_pow(body))
                self.assertEqual(status, 200, answer)
                self.assertEqual(self.reasons()[label], before[label] + 1)

    def test_server_that_shifts_context_excludes_everything(self) -> None:
        for flags in (("--context-shift",), ("--cache-reuse", "16")):
            with self.subTest(flags), LlamaServer(stub_binary(), *flags) as server:
                self.assertEqual(self.counted(PROFILE, server), {"context_shift": 1})

    def test_server_defaults_exclude_nothing(self) -> None:
        flags = ["--temp", "0.2", "--top-k", "7", "--min-p", "0.3", "--repeat-penalty", "1.2", "--seed", "5"]
        with LlamaServer(stub_binary(), *flags) as server:
            self.assertEqual(self.counted({"prompt": "The river", "n_predict": 1}, server), {MINED: 1})
            with self.subTest("another value than the server's"):
                self.assertEqual(self.counted({**PROFILE, "min_p": 0.2}, server), {"sampler_option": 1})

    def test_server_grammar_excludes_everything(self) -> None:
        with LlamaServer(stub_binary(), "--grammar", 'root ::= "yes"') as server:
            self.assertEqual(self.counted(PROFILE, server), {"grammar": 1})

    def test_loaded_adapter_excludes_everything(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            adapter = Path(folder) / "tiny.gguf"
            write_tiny_lora(adapter)
            for flags in (("--lora", str(adapter)), ("--lora", str(adapter), "--lora-init-without-apply")):
                with self.subTest(flags[2:]), LlamaServer(stub_binary(), *flags) as server:
                    self.assertEqual(self.counted(PROFILE, server), {"adapter": 1})

    def test_cancelled_stream_frees_the_slot(self) -> None:
        for _ in range(6):
            body = with_pow({"prompt": "Count: one, two,", "max_tokens": 2000, "ignore_eos": True})
            with contextlib.closing(self.stub.stream("/v1/completions", body)) as events:
                for _ in range(3):
                    next(events)
        self.stub.wait_idle()
        status, answer = self.stub.post("/completion", with_pow({**TEXT, "n_predict": 2}))
        self.assertEqual(status, 200, answer)

    def test_two_clients_at_once(self) -> None:
        answers: dict[int, int] = {}

        def ask(i: int) -> None:
            answers[i] = self.stub.post("/v1/chat/completions", with_pow(CHAT))[0]

        threads = [threading.Thread(target=ask, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, dict.fromkeys(range(4), 200))

    def test_metrics_keep_the_stock_names(self) -> None:
        stock = set(self.stock.metrics())
        stub = set(self.stub.metrics())
        self.assertEqual({name for name in stub - stock if not name.startswith("tensorpow_")}, set())
        self.assertEqual(stock - stub, set())
        self.assertTrue(self.reasons())


if __name__ == "__main__":
    unittest.main()
