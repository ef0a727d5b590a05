"""What the patch asks of the library and what it does with the answers, seen by a recording library.

The library here is `recorder/tensorpow_recorder.cpp`: it logs each call and chooses tokens as the payload
tells it. So these tests pin the hooks: arguments of begin, one sample per token, one end per sequence.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

from llama_server import Json, LlamaServer, model_file, recorder_binary, stock_binary

FINISHED, CANCELLED, ERROR = 0, 1, 2
EOS = 2  # <|im_end|> of the tests' model
N_VOCAB = 49152
PROMPT = "The capital of France is a city on the river"
TEXT: Json = {"prompt": PROMPT, "n_predict": 12, "return_tokens": True, "cache_prompt": False}


def mined(body: Json, **pow_members: int) -> Json:
    return {**body, "extra_sampling_params": {"pow": {"rank": 0, **pow_members}}}


class RecordedServer(LlamaServer):
    """A server with the recording library and its log."""

    def __init__(self, *args: str) -> None:
        self._calls = tempfile.NamedTemporaryFile(prefix="tensorpow-calls-")  # noqa: SIM115
        self.calls_file = Path(self._calls.name)
        super().__init__(recorder_binary(), *args, env={"TENSORPOW_RECORDER_LOG": str(self.calls_file)})

    def calls(self, name: str | None = None) -> list[Json]:
        lines = self.calls_file.read_text().splitlines()
        parsed: list[Json] = [json.loads(line) for line in lines]
        return [call for call in parsed if name in (None, call["call"])]

    @contextlib.contextmanager
    def new_calls(self, into: list[Json]) -> Iterator[None]:
        """Appends what was called in the block, once the server is idle again."""
        before = len(self.calls())
        yield
        self.wait_idle()
        into.extend(self.calls()[before:])


class Hooks(unittest.TestCase):
    server: ClassVar[RecordedServer]

    @classmethod
    def setUpClass(cls) -> None:
        cls.server = cls.enterClassContext(RecordedServer())

    def ask(
        self, body: Json, path: str = "/completion", server: RecordedServer | None = None
    ) -> tuple[Json, list[Json]]:
        """The answer and the calls it caused."""
        target = server or self.server
        calls: list[Json] = []
        with target.new_calls(calls):
            status, answer = target.post(path, body)
        self.assertEqual(status, 200, answer)
        return answer, calls

    def tokenize(self, text: str) -> list[int]:
        _, answer = self.server.post("/tokenize", {"content": text, "add_special": True})
        tokens: list[int] = answer["tokens"]
        return tokens

    def test_without_pow_the_library_is_not_called(self) -> None:
        _, calls = self.ask(TEXT)
        self.assertEqual(calls, [])

    def test_begin_sample_end(self) -> None:
        answer, calls = self.ask(mined(TEXT))
        self.assertEqual([call["call"] for call in calls], ["begin", "end"])
        begin, end = calls
        self.assertEqual(begin["prompt"], self.tokenize(PROMPT))
        self.assertEqual(begin["n_vocab"], N_VOCAB)
        self.assertEqual(begin["exclusions"], 0)
        self.assertEqual(begin["slot"], answer["id_slot"])
        self.assertEqual(json.loads(begin["pow"]), {"rank": 0})
        self.assertEqual(end["tokens"], answer["tokens"])
        self.assertEqual(len(end["tokens"]), 12)
        self.assertEqual(end["reason"], FINISHED)

    def test_library_sees_raw_logits(self) -> None:
        # a bias, penalties or the temperature of the chain would move the best token of the raw logits
        flags = ["--temp", "1.8", "--min-p", "0.5", "--repeat-penalty", "1.8", "--logit-bias", "260-100"]
        expected, _ = self.ask({**TEXT, "temperature": 0})
        with RecordedServer(*flags) as server:
            answer, _ = self.ask(mined({**TEXT, "temperature": 1.0}), server=server)
        self.assertEqual(answer["tokens"], expected["tokens"])

    def test_choice_of_the_library_is_the_text(self) -> None:
        best, _ = self.ask(mined(TEXT))
        second, calls = self.ask(mined(TEXT, rank=1))
        self.assertNotEqual(best["content"], second["content"])
        self.assertEqual(calls[-1]["tokens"], second["tokens"])
        again, _ = self.ask(mined(TEXT, rank=1))
        self.assertEqual(again["content"], second["content"])

    def test_sampling_fields(self) -> None:
        cases: dict[str, tuple[Json, tuple[float, int, float, float]]] = {
            "absent": ({}, (1.0, 50, 1.0, 1.0)),
            "null": ({"temperature": None, "top_k": None, "top_p": None}, (1.0, 50, 1.0, 1.0)),
            "given": ({"temperature": 0.5, "top_k": 20, "top_p": 0.25}, (0.5, 20, 0.25, 1.0)),
            "penalty": ({"repetition_penalty": 1.5}, (1.0, 50, 1.0, 1.5)),
            "outside, not clamped": ({"temperature": -1, "top_p": 1.5}, (-1.0, 50, 1.5, 1.0)),
            "greedy": ({"temperature": 0}, (0.0, 50, 1.0, 1.0)),
        }
        for name, (extra, expected) in cases.items():
            with self.subTest(name):
                _, calls = self.ask(mined({**TEXT, "n_predict": 1, **extra}))
                fields = ("temperature", "top_k", "top_p", "repetition_penalty")
                self.assertEqual(tuple(calls[0][field] for field in fields), expected)

    def test_payload_reaches_the_library_as_sent(self) -> None:
        cases: dict[str, tuple[object, str]] = {
            "object": ({"b": 1, "a": [True, None, "x"]}, '{"b":1,"a":[true,null,"x"]}'),
            "string": (' {"tick": 1}', ' {"tick": 1}'),
            "number": (5, "5"),
            "array": ([1, 2], "[1,2]"),
            "large integers": ({"r": 18446744073709551615}, '{"r":18446744073709551615}'),
        }
        for name, (value, expected) in cases.items():
            for key in ("extra_sampling_params", "vllm_xargs"):
                with self.subTest(name, key=key):
                    _, calls = self.ask({**TEXT, "n_predict": 1, key: {"pow": value}})
                    self.assertEqual(calls[0]["pow"], expected)

    def test_completion_id_is_the_one_the_client_sees(self) -> None:
        chat = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
        routes = {
            "/v1/completions": {"prompt": PROMPT, "max_tokens": 4},
            "/v1/chat/completions": chat,
            "/v1/responses": {"input": "Hi", "max_output_tokens": 4},
        }
        for path, body in routes.items():
            with self.subTest(path):
                answer, calls = self.ask(mined(body), path)
                self.assertEqual(calls[0]["completion_id"], answer["id"])
                self.assertRegex(answer["id"], "^(chatcmpl-|resp_)[A-Za-z0-9]{32}$")
            with self.subTest(path, stream=True):
                calls = []
                with self.server.new_calls(calls):
                    events = [json.loads(e) for e in self.server.stream(path, mined(body)) if e != "[DONE]"]
                ids = {e["id"] for e in events if "id" in e} | {
                    e["response"]["id"] for e in events if "response" in e
                }
                self.assertEqual(ids, {calls[0]["completion_id"]})
        with self.subTest("native route: the client sees no id"):
            answer, calls = self.ask(mined(TEXT))
            self.assertNotIn("id", answer)
            self.assertEqual(calls[0]["completion_id"], "")

    def test_several_prompts_are_several_sequences(self) -> None:
        answer, calls = self.ask(mined({"prompt": ["One", "Two"], "max_tokens": 4}), "/v1/completions")
        begins = [call for call in calls if call["call"] == "begin"]
        self.assertEqual({call["completion_id"] for call in begins}, {answer["id"]})
        self.assertEqual([call["prompt"] for call in begins], [self.tokenize("One"), self.tokenize("Two")])
        self.assertEqual(len(calls), 4)

    def test_cached_prompt_is_still_passed_whole(self) -> None:
        body = {**TEXT, "cache_prompt": True, "id_slot": 0}
        first, _ = self.ask(mined(body))
        second, calls = self.ask(mined(body))
        self.assertGreater(second["timings"]["cache_n"], 0)
        self.assertEqual(calls[0]["prompt"], self.tokenize(PROMPT))
        self.assertEqual(second["content"], first["content"])

    def test_two_slots_at_once(self) -> None:
        answers: dict[int, Json] = {}

        def ask(rank: int) -> None:
            answers[rank] = self.server.post("/completion", mined({**TEXT, "n_predict": 40}, rank=rank))[1]

        calls: list[Json] = []
        with self.server.new_calls(calls):
            threads = [threading.Thread(target=ask, args=(rank,)) for rank in (0, 1)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        ends = {call["slot"]: call for call in calls if call["call"] == "end"}
        self.assertEqual(set(ends), {0, 1})
        for answer in answers.values():
            self.assertEqual(ends[answer["id_slot"]]["tokens"], answer["tokens"])

    def test_end_of_generation_token_ends_the_answer(self) -> None:
        answer, calls = self.ask(mined(TEXT, eos=EOS, eos_at=3))
        self.assertEqual(answer["stop_type"], "eos")
        self.assertEqual(calls[-1]["tokens"], answer["tokens"])
        self.assertEqual(len(calls[-1]["tokens"]), 4)
        self.assertEqual(calls[-1]["reason"], FINISHED)

    def test_ignore_eos_goes_on_behind_the_end_token(self) -> None:
        answer, calls = self.ask(mined({**TEXT, "ignore_eos": True}, eos=EOS, eos_at=3))
        self.assertEqual(answer["stop_type"], "limit")
        self.assertEqual(len(calls[-1]["tokens"]), 12)
        self.assertEqual(calls[-1]["tokens"][3], EOS)
        self.assertEqual(calls[0]["exclusions"], 0)

    def test_stop_word_finishes(self) -> None:
        whole, _ = self.ask(mined(TEXT))
        word = whole["content"].split()[1]
        answer, calls = self.ask(mined({**TEXT, "stop": [word]}))
        self.assertEqual(answer["stop_type"], "word")
        self.assertEqual(calls[-1]["reason"], FINISHED)
        self.assertLess(len(calls[-1]["tokens"]), 12)

    def test_cancelled_stream_ends_the_sequence_and_the_slot_starts_afresh(self) -> None:
        body = mined({"prompt": PROMPT, "n_predict": 2000, "ignore_eos": True, "id_slot": 1})
        calls: list[Json] = []
        with (
            self.server.new_calls(calls),
            contextlib.closing(self.server.stream("/completion", body)) as events,
        ):
            for _ in range(5):
                next(events)
        self.assertEqual(calls[-1]["reason"], CANCELLED)
        self.assertGreaterEqual(len(calls[-1]["tokens"]), 5)
        answer, calls = self.ask(mined({**TEXT, "id_slot": 1}))
        self.assertEqual(calls[-1]["tokens"], answer["tokens"])

    def test_parked_slot_waits_before_its_draw(self) -> None:
        expected, _ = self.ask(mined(TEXT))
        for step in (0, 1, 5):
            for prompt in (PROMPT, [5]):  # a prompt of one token has nothing to process before it
                with self.subTest(step=step, prompt=prompt):
                    body = {**TEXT, "prompt": prompt}
                    began = time.monotonic()
                    answer, calls = self.ask(mined(body, park_at=step, park_ms=400))
                    self.assertGreaterEqual(time.monotonic() - began, 0.4)
                    self.assertEqual(calls[-1]["reason"], FINISHED, "it sampled while parked")
                    self.assertEqual(calls[-1]["tokens"], answer["tokens"])
                    if prompt == PROMPT:
                        self.assertEqual(answer["tokens"], expected["tokens"])

    def test_parked_slot_does_not_hold_up_its_neighbour(self) -> None:
        parked = {**TEXT, "id_slot": 0}
        answers: list[Json] = []
        calls: list[Json] = []
        with self.server.new_calls(calls):
            waiting = threading.Thread(
                target=lambda: answers.append(
                    self.server.post("/completion", mined(parked, park_at=3, park_ms=12_000))[1]
                )
            )
            waiting.start()
            for _ in range(2):
                self.server.post("/completion", mined({**TEXT, "id_slot": 1}))
            self.server.post("/completion", {**TEXT, "id_slot": 1})
            self.assertTrue(waiting.is_alive(), "the neighbour had to wait")
            waiting.join()
        ends = [call for call in calls if call["call"] == "end"]
        self.assertEqual([end["slot"] for end in ends], [1, 1, 0])
        self.assertEqual({end["reason"] for end in ends}, {FINISHED})
        self.assertEqual(ends[-1]["tokens"], answers[0]["tokens"])

    def test_parked_slot_can_be_cancelled(self) -> None:
        for step in (0, 2):
            with self.subTest(step=step):
                body = mined({**TEXT, "n_predict": 9}, park_at=step, park_ms=60_000)
                calls: list[Json] = []
                began = time.monotonic()
                with self.server.new_calls(calls):
                    self.server.post_and_leave("/completion", {**body, "stream": True}, after_s=2.0)
                    # the server looks for leavers when no answer of any request came for a second,
                    # and what `new_calls` asks would be such answers
                    time.sleep(5)
                self.assertLess(time.monotonic() - began, 30)
                self.assertEqual(calls[-1]["reason"], CANCELLED)
                self.assertEqual(len(calls[-1]["tokens"]), step)

    def test_too_long_prompt_is_an_error(self) -> None:
        calls: list[Json] = []
        with self.server.new_calls(calls):
            status, _ = self.server.post("/completion", mined({"prompt": [5] * 5000, "n_predict": 1}))
        self.assertEqual(status, 400)
        self.assertEqual([call["call"] for call in calls], ["begin", "end"])
        self.assertEqual((calls[1]["reason"], calls[1]["tokens"]), (ERROR, []))

    def test_text_goes_on_when_the_library_stops(self) -> None:
        expected, _ = self.ask({**TEXT, "temperature": 0})
        for member in ("fail_at", "bad_token_at"):
            for step in (0, 5):
                with self.subTest(member, step=step):
                    answer, calls = self.ask(mined({**TEXT, "temperature": 0}, **{member: step}))
                    self.assertEqual(answer["content"], expected["content"])
                    self.assertEqual(calls[-1]["reason"], ERROR)
                    self.assertEqual(calls[-1]["tokens"], answer["tokens"][:step])

    def test_excluded_request_is_counted_and_served_by_the_chain(self) -> None:
        body = {**TEXT, "seed": 3}
        answer, calls = self.ask(mined(body, rank=1))
        self.assertEqual([call["call"] for call in calls], ["begin"])
        self.assertNotEqual(calls[0]["exclusions"], 0)
        expected, _ = self.ask(body)
        self.assertEqual(answer["content"], expected["content"])

    def test_logprobs_describe_the_chosen_token(self) -> None:
        for post_sampling in (False, True):
            with self.subTest(post_sampling_probs=post_sampling):
                body = {**TEXT, "n_probs": 3, "post_sampling_probs": post_sampling}
                answer, calls = self.ask(mined(body, rank=1))
                names = ("prob", "top_probs") if post_sampling else ("logprob", "top_logprobs")
                self.assertEqual([p["id"] for p in answer["completion_probabilities"]], calls[-1]["tokens"])
                for entry in answer["completion_probabilities"]:
                    self.assertEqual(entry[names[1]][1]["id"], entry["id"])
                    self.assertAlmostEqual(entry[names[0]], entry[names[1]][1][names[0]])
        chat = {
            "messages": [{"role": "user", "content": "Hi"}],
            "max_tokens": 6,
            "logprobs": True,
            "top_logprobs": 2,
        }
        answer, calls = self.ask(mined(chat, rank=1), "/v1/chat/completions")
        content = answer["choices"][0]["logprobs"]["content"]
        self.assertEqual([entry["id"] for entry in content], calls[-1]["tokens"][: len(content)])

    def test_no_speculation_and_no_backend_sampling_in_a_mined_slot(self) -> None:
        repeat = {**TEXT, "prompt": "one two three four five six seven eight nine ten " * 4, "n_predict": 24}
        with RecordedServer("--spec-type", "ngram-simple", "--backend-sampling") as server:
            plain, _ = self.ask({**repeat, "temperature": 0, "backend_sampling": False}, server=server)
            self.assertGreater(
                plain["timings"].get("draft_n", 0), 0, "the stock path does not speculate here"
            )
            answer, calls = self.ask(mined(repeat), server=server)
            self.assertEqual(answer["timings"].get("draft_n", 0), 0)
            self.assertEqual(calls[-1]["tokens"], answer["tokens"])
            self.assertEqual(len(answer["tokens"]), 24)
            with self.subTest("beside a slot that samples on the backend"):
                other = threading.Thread(
                    target=server.post, args=("/completion", {**repeat, "n_predict": 60})
                )
                other.start()
                answer, calls = self.ask(mined(repeat), server=server)
                other.join()
                self.assertEqual(calls[-1]["tokens"], answer["tokens"])

    def test_mined_slot_does_not_build_on_shifted_cells(self) -> None:
        head = self.tokenize("Alpha beta gamma.")
        tail = self.tokenize(" The quick brown fox jumps over the lazy dog near the old mill." * 3)
        plain: Json = {"n_predict": 1, "id_slot": 0, "cache_prompt": True, "return_tokens": True}

        def cached(body: Json) -> int:
            answer, _ = self.ask(body)
            return int(answer["timings"]["cache_n"])

        def shift() -> None:
            self.ask({**plain, "prompt": head + tail, "cache_prompt": False})
            reused = cached({**plain, "prompt": tail, "n_cache_reuse": 8})
            self.assertGreater(reused, 20, "nothing was shifted")

        shift()
        self.assertGreater(cached({**plain, "prompt": tail}), 20)
        shift()
        self.assertEqual(cached(mined({**plain, "prompt": tail})), 0)
        self.assertGreater(cached(mined({**plain, "prompt": tail})), 20)

    def test_mined_slot_does_not_build_on_a_loaded_file(self) -> None:
        plain: Json = {**TEXT, "n_predict": 1, "id_slot": 0, "cache_prompt": True}
        with (
            tempfile.TemporaryDirectory() as folder,
            RecordedServer("--slot-save-path", folder + "/") as server,
        ):
            self.ask(plain, server=server)
            for body, reused in ((plain, True), (mined(plain), False)):
                for action in ("save", "restore"):
                    status, answer = server.post(f"/slots/0?action={action}", {"filename": "cells"})
                    self.assertEqual(status, 200, answer)
                answer, _ = self.ask(body, server=server)
                self.assertEqual(answer["timings"]["cache_n"] > 0, reused)

    def test_metrics_of_the_library_follow_those_of_the_server(self) -> None:
        name = "tensorpow_sequences_started_total"
        before = self.server.metrics()[name]
        self.ask(mined({**TEXT, "n_predict": 1}))
        self.assertEqual(self.server.metrics()[name], before + 1)

    def test_one_engine_through_sleep_and_to_the_end(self) -> None:
        server = RecordedServer("--sleep-idle-seconds", "1")
        with server:
            self.ask(mined({**TEXT, "n_predict": 2}), server=server)
            deadline = time.monotonic() + 20
            while "entering sleeping state" not in server.log() and time.monotonic() < deadline:
                time.sleep(0.2)
            self.assertEqual(server.metrics()["tensorpow_sequences_started_total"], 1)
            self.ask(mined({**TEXT, "n_predict": 2}), server=server)
            self.assertEqual(server.metrics()["tensorpow_sequences_started_total"], 2)
        names = [call["call"] for call in server.calls()]
        self.assertEqual(names, ["engine_new", "begin", "end", "begin", "end", "engine_free"])
        self.assertEqual(server.calls()[0]["engine"], "llama.cpp b11434")

    def test_refused_configuration_stops_the_start(self) -> None:
        env = {**os.environ, "TENSORPOW_RECORDER_REFUSE": "1"}
        command = [str(recorder_binary()), "-m", str(model_file()), "--port", "0"]
        done = subprocess.run(command, check=False, env=env, capture_output=True, text=True, timeout=60)
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("POW_EGRESS_MODE=nonsense is not a mode", done.stdout + done.stderr)


class StockAgainstRecorder(unittest.TestCase):
    def test_best_token_of_the_raw_logits_is_the_stock_greedy_text(self) -> None:
        body = {**TEXT, "n_predict": 60}
        with LlamaServer(stock_binary()) as stock:
            _, expected = stock.post("/completion", {**body, "temperature": 0})
        with RecordedServer() as server:
            _, answer = server.post("/completion", mined(body))
        self.assertEqual(answer["tokens"], expected["tokens"])


if __name__ == "__main__":
    unittest.main()
