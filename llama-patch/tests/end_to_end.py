"""Thirty real completions through the proxy, four at a time, against the patched and the stock server.

Run by `make test-llama`. Starts the patched llama-server with the real library, `tensorpow devnet` in front
of it, and the stock server beside them; then checks what a miner and a user rely on: every window that
should exist is a proof that verifies (by the library's own check and by `proof_reader`, which shares no code
with it), nothing else leaves one, and whoever does not mine gets the stock server's text.
"""

from __future__ import annotations

import ctypes
import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import time
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llama_server import PATCH_DIR, Json, LlamaServer, free_port, stock_binary
from proof_reader import WINDOW, Message

ROOT = PATCH_DIR.parent
MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct@b179c9523d0e6a0f98a330c7562b682750a6f8c8"
NAME = MODEL.split("@")[0]
ANY_SHARE = (1 << 256) - 1
ANSWER_LIMIT_S = 600.0

TOPICS = [
    "the history of tea",
    "how tides work",
    "a fox who could count",
    "the rules of chess",
    "volcanoes",
    "a lighthouse keeper",
    "bread baking",
    "the moons of Jupiter",
    "an old library",
    "how bees dance",
    "a city under the sea",
    "the invention of paper",
    "mountain rivers",
    "a clock that ran backwards",
]
SCHEMA: Json = {
    "type": "json_schema",
    "json_schema": {
        "name": "place",
        "schema": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "size": {"type": "integer"}},
            "required": ["city", "size"],
        },
    },
}


@dataclass
class Asked:
    """One request of the run and what came of it."""

    kind: str
    path: str
    body: Json
    mined: bool = True
    cancel_after: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    id: str = ""
    text: str = ""
    tokens: int = 0
    logprobs: int = 0
    finish: str | None = None
    mining: str = ""


def chat(kind: str, topic: str, tokens: int, **more: Any) -> Asked:
    prompt = f"Write a long text about {topic}."
    body = {"model": NAME, "messages": [{"role": "user", "content": prompt}], "max_tokens": tokens, **more}
    return Asked(kind, "/v1/chat/completions", body)


def text(kind: str, topic: str, tokens: int, **more: Any) -> Asked:
    body = {"model": NAME, "prompt": f"A long story about {topic}. Once", "max_tokens": tokens, **more}
    return Asked(kind, "/v1/completions", body)


def unmined(asked: Asked) -> Asked:
    asked.mined = False
    return asked


def cancelled(asked: Asked, after: int) -> Asked:
    asked.cancel_after = after
    asked.body["stream"] = True
    return asked


def thirty() -> list[Asked]:
    """The run: mined ones of 300 to 1200 tokens, and every kind that must leave no proof or fewer."""
    forever = {"ignore_eos": True}
    run = [
        chat("long", TOPICS[0], 1200, **forever),
        chat("long, streamed", TOPICS[1], 900, stream=True, **forever),
        text("long text", TOPICS[2], 768, **forever),
        text("long text, streamed", TOPICS[3], 600, stream=True, **forever),
        chat("exactly one window", TOPICS[4], 256, **forever),
        chat("one token short", TOPICS[5], 255, **forever),
        chat("two windows", TOPICS[6], 512, stream=True, **forever),
        text("300", TOPICS[7], 300, **forever),
        text("400, streamed", TOPICS[8], 400, stream=True, **forever),
        chat("ends by itself", TOPICS[9], 700),
        chat("ends by itself, streamed", TOPICS[10], 700, stream=True),
        text("ends by itself, text", TOPICS[11], 500),
        chat("logprobs", TOPICS[12], 320, logprobs=True, top_logprobs=2, **forever),
        text("logprobs, text", TOPICS[13], 300, logprobs=3, **forever),
        chat("stop words", TOPICS[0], 600, stop=["\n\n", "lighthouse"]),
        text("stop word", TOPICS[1], 600, stop=[" the end"]),
        chat("temperature and top-p", TOPICS[2], 300, temperature=0.7, top_p=0.9, top_k=20, **forever),
        chat("short", TOPICS[3], 20),
        text("short text", TOPICS[4], 40),
        cancelled(chat("cancelled early", TOPICS[5], 1200, **forever), after=60),
        cancelled(text("cancelled early, text", TOPICS[6], 1200, **forever), after=100),
        cancelled(chat("cancelled in window two", TOPICS[7], 1200, **forever), after=330),
        unmined(chat("seed", TOPICS[8], 300, seed=7, **forever)),
        unmined(chat("n = 2", TOPICS[9], 280, n=2, seed=3, **forever)),
        unmined(chat("json schema", TOPICS[10], 300, seed=4, response_format=SCHEMA)),
        unmined(text("penalty", TOPICS[11], 300, seed=5, presence_penalty=0.7, **forever)),
        unmined(text("min_p", TOPICS[12], 300, seed=5, min_p=0.2, **forever)),
        unmined(text("logit bias", TOPICS[13], 300, seed=5, logit_bias={"260": -4}, **forever)),
        unmined(chat("greedy", TOPICS[0], 300, temperature=0, seed=1, **forever)),
    ]
    opted_out = unmined(chat("opted out", TOPICS[1], 300, seed=9, **forever))
    opted_out.headers["x-tensorpow-mine"] = "off"
    return [*run, opted_out]


def ask(port: int, asked: Asked) -> Asked:
    """Sends one request and fills in what came back."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_LIMIT_S)
    try:
        headers = {"Content-Type": "application/json", **asked.headers}
        connection.request("POST", asked.path, json.dumps(asked.body), headers)
        answer = connection.getresponse()
        asked.mining = answer.headers.get("x-tensorpow-mining", "")
        if answer.status != 200:
            raise AssertionError(f"{asked.kind}: {answer.status} {answer.read()[:300]!r}")
        if asked.body.get("stream"):
            read_stream(answer, asked)
        else:
            read_answer(json.loads(answer.read()), asked)
    finally:
        connection.close()
    return asked


def piece(choice: Json) -> str:
    return str(
        choice.get("text") or (choice.get("message") or choice.get("delta") or {}).get("content") or ""
    )


def read_answer(answer: Json, asked: Asked) -> None:
    asked.id = answer["id"]
    asked.tokens = answer["usage"]["completion_tokens"]
    asked.text = "\0".join(piece(choice) for choice in answer["choices"])
    asked.finish = answer["choices"][0]["finish_reason"]
    logprobs = answer["choices"][0].get("logprobs") or {}
    asked.logprobs = len(logprobs.get("content") or logprobs.get("tokens") or [])


def read_stream(answer: http.client.HTTPResponse, asked: Asked) -> None:
    pieces = 0
    while line := answer.readline():
        if not line.startswith(b"data: ") or line.strip() == b"data: [DONE]":
            continue
        event = json.loads(line[len(b"data: ") :])
        asked.id = event.get("id") or asked.id
        if usage := event.get("usage"):
            asked.tokens = usage["completion_tokens"]
        for choice in event.get("choices") or []:
            asked.text += piece(choice)
            asked.finish = choice.get("finish_reason") or asked.finish
            pieces += 1
        if asked.cancel_after is not None and pieces >= asked.cancel_after:
            return  # the caller closes the connection


class Library:
    """The proof functions of libtensorpow, by its C interface."""

    def __init__(self, path: Path) -> None:
        self._lib = ctypes.CDLL(str(path))
        self._lib.tensorpow_last_error.restype = ctypes.c_char_p

    def check(self, message: bytes) -> str | None:
        """None when the library accepts the proof, else its reason."""
        accepted = ctypes.c_int32(-1)
        report = ctypes.create_string_buffer(4096)
        needed = ctypes.c_size_t(0)
        status = self._lib.tensorpow_proof_check(
            message,
            ctypes.c_size_t(len(message)),
            ANY_SHARE.to_bytes(32, "big"),
            ctypes.byref(accepted),
            report,
            ctypes.c_size_t(len(report)),
            ctypes.byref(needed),
        )
        if status != 0:
            return f"status {status}: {self._lib.tensorpow_last_error().decode()}"
        return None if accepted.value == 1 else report.value.decode()

    def commitment(self, message: bytes) -> bytes:
        out = ctypes.create_string_buffer(32)
        status = self._lib.tensorpow_proof_commitment(message, ctypes.c_size_t(len(message)), out)
        if status != 0:
            raise AssertionError(f"commitment: status {status}")
        return out.raw


class Devnet:
    """`tensorpow devnet` in front of an engine."""

    def __init__(self, engine_port: int, collector_port: int) -> None:
        self.port = free_port()
        self._log = tempfile.NamedTemporaryFile(prefix="devnet-", suffix=".log")  # noqa: SIM115
        command = [str(tensorpow()), "devnet", "--model", MODEL, "--proof-version", "2"]
        command += ["--engine", f"http://127.0.0.1:{engine_port}", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--collector", f"127.0.0.1:{collector_port}", "--interval", "2"]
        self.process = subprocess.Popen(command, stdout=self._log, stderr=subprocess.STDOUT)

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def get(self, path: str) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def wait_ready(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"devnet ended early:\n{self.log()}")
            try:
                if self.get("/ready")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(f"devnet is not ready:\n{self.log()}")

    def proofs(self, completion: str) -> list[Message]:
        """All proofs of a completion, in order of arrival."""
        found: list[Message] = []
        while True:
            status, body = self.get(f"/v1/proof/{completion}?index={len(found)}")
            if status == 404:
                return found
            found.append(Message(body))

    def settled_proofs(self, completion: str, expected: int) -> list[Message]:
        """The proofs of a completion once as many have come as should."""
        settled(lambda: len(self.proofs(completion)) >= expected)
        return self.proofs(completion)

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def cargo_target() -> Path:
    return Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"


def tensorpow() -> Path:
    return Path(os.environ.get("TENSORPOW_BIN", cargo_target() / "tensorpow"))


def patched_binary() -> Path:
    given = os.environ.get("LLAMA_SERVER_PATCHED")
    if given:
        return Path(given)
    done = subprocess.run([str(PATCH_DIR / "build")], check=True, stdout=subprocess.PIPE, text=True)
    return Path(done.stdout.strip().splitlines()[-1])


@contextmanager
def patched(*args: str, collector: int, save: Path) -> Iterator[LlamaServer]:
    env = {
        "POW_EGRESS_MODE": "broker",
        "ZMQ_PUSH_HOST": "127.0.0.1",
        "ZMQ_PUSH_PORT": str(collector),
        "PROOF_SAVE_DIR": str(save),
    }
    with LlamaServer(patched_binary(), *args, env=env) as server:
        yield server


def settled(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Waits for something that happens behind the answer: closing and sending of windows."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


class ThirtyCompletions(unittest.TestCase):
    """The whole chain under mixed load."""

    run_of: ClassVar[list[Asked]]
    library: ClassVar[Library]

    @classmethod
    def setUpClass(cls) -> None:
        cls.library = Library(cargo_target() / "libtensorpow.so")

    def test_mixed_load(self) -> None:
        collector = free_port()
        with (
            tempfile.TemporaryDirectory() as save,
            patched("--parallel", "4", "-c", "8192", collector=collector, save=Path(save)) as engine,
        ):
            devnet = Devnet(engine.port, collector)
            try:
                devnet.wait_ready()
                run = thirty()
                self.assertEqual(len(run), 30)
                began = time.monotonic()
                with ThreadPoolExecutor(4) as pool:
                    for asked in pool.map(lambda a: ask(devnet.port, a), run):
                        print(f"  {asked.kind:<28} {asked.tokens:>5} tokens  {asked.mining}", flush=True)
                print(f"  {time.monotonic() - began:.0f} s for 30 completions, 4 at a time")
                engine.wait_idle()
                total = self.check_windows(devnet, run)
                self.check_files(Path(save), total)
                self.check_counters(engine, devnet, total)
                self.check_texts(devnet, run)
            except BaseException:
                print(devnet.log()[-6000:], file=sys.stderr)
                raise
            finally:
                devnet.stop()

    def check_windows(self, devnet: Devnet, run: list[Asked]) -> int:
        """Every window that should exist exists and verifies; no other does."""
        total = 0
        for asked in run:
            with self.subTest(asked.kind):
                expected = asked.tokens // WINDOW if asked.mined else 0
                if asked.cancel_after is not None:
                    # each streamed piece is at least one token; at most a few more were drawn
                    expected = asked.cancel_after // WINDOW
                proofs = devnet.settled_proofs(asked.id, expected)
                self.assertEqual(len(proofs), expected, f"{asked.tokens} tokens, {asked.mining}")
                total += expected
                for index, message in enumerate(proofs):
                    self.check_proof(message, asked, index, proofs)
                if asked.kind.startswith("logprobs"):
                    self.assertEqual(asked.logprobs, asked.tokens)
        self.assertGreater(total, 15)
        return total

    def check_proof(self, message: Message, asked: Asked, index: int, proofs: list[Message]) -> None:
        self.assertIsNone(self.library.check(message.data))
        self.assertEqual(message.problems(ANY_SHARE), [])
        self.assertEqual(message.response.vector(3, "B"), self.library.commitment(message.data))
        self.assertEqual(message.completion_id, asked.id)
        self.assertEqual(message.proof.vector(9, "B").decode(), MODEL)
        self.assertEqual(message.proof.vector(10, "B"), b"bf16")
        if index:
            before = proofs[index - 1]
            self.assertEqual(
                message.prompt, before.prompt + before.tokens, "the archive grows by each window"
            )

    def check_files(self, save: Path, total: int) -> None:
        files = [f for f in save.iterdir() if f.suffix == ".bin"]
        self.assertEqual(len(files), total, "one file in PROOF_SAVE_DIR per proof")
        for file in files:
            self.assertIsNone(self.library.check(file.read_bytes()), file.name)

    def check_counters(self, engine: LlamaServer, devnet: Devnet, total: int) -> None:
        metrics = engine.metrics()
        sent = sum(v for k, v in metrics.items() if k.startswith("tensorpow_proofs_sent_total"))
        dropped = {k: v for k, v in metrics.items() if k.startswith("tensorpow_proofs_dropped_total") and v}
        failed = {k: v for k, v in metrics.items() if "self_check" in k and v}
        self.assertEqual((sent, dropped, failed), (total, {}, {}))
        self.assertEqual(metrics["tensorpow_sequences_active"], 0)
        text = devnet.get("/metrics")[1].decode()
        # proofs on a parent that was overtaken are not the engine's fault; everything else would be
        fine = ('verdict="block"', 'verdict="share"', 'verdict="stale"', 'reason="stale_parent"')
        for line in text.splitlines():
            if line.startswith(("tensorpow_proofs_judged_total", "tensorpow_proofs_dropped_total")):
                self.assertTrue(any(label in line for label in fine), line)
        self.assertIn('tensorpow_proofs_judged_total{verdict="share"}', text)

    def check_texts(self, devnet: Devnet, run: list[Asked]) -> None:
        """Unmined and excluded requests, one by one and uncached, read as on the stock server."""
        with LlamaServer(stock_binary(), "--parallel", "4", "-c", "8192") as stock:
            for asked in run:
                if asked.mined:
                    continue
                with self.subTest(asked.kind):
                    body = {**asked.body, "cache_prompt": False}
                    ours = ask(devnet.port, Asked(asked.kind, asked.path, dict(body), headers=asked.headers))
                    theirs = ask(stock.port, Asked(asked.kind, asked.path, dict(body)))
                    self.assertEqual(ours.text, theirs.text)
                    self.assertEqual(devnet.proofs(ours.id), [])


POW: Json = {
    "block_hash": "2a" * 32,
    "vdf": "5c" * 200,
    "tick": 32768,
    "target": "7fffff" + "00" * 29,
    "share_target": "ff" * 32,
    "header_prefix": "03000000" + "2a" * 32 + "3b" * 32 + "00a0896a" + "ffff7f20",
    "ipfs_cid": "QmDefault",
    "request_id": 7,
    "difficulty": 1000000,
    "proof_version": 2,
    "model_identifier": MODEL,
    "compute_precision": "bf16",
}


def pow_with(**changes: Any) -> Json:
    return {**POW, **changes}


WRONG: dict[str, tuple[Any, str]] = {
    "bad hex": (pow_with(block_hash="zz" * 32), "payload_block_hash"),
    "short target": (pow_with(target="ff"), "payload_target"),
    "tick over u32": (pow_with(tick=1 << 32), "payload_tick"),
    "request id below 0": (pow_with(request_id=-1), "payload_request_id"),
    "difficulty 0": (pow_with(difficulty=0), "payload_difficulty"),
    "empty vdf": (pow_with(vdf=""), "payload_vdf"),
    "empty prefix": (pow_with(header_prefix=""), "payload_header_prefix"),
    "a number": (5, "payload_not_an_object"),
    "an array": ([1], "payload_not_an_object"),
    "no JSON": ("{", "payload_not_json"),
    "another version": (pow_with(proof_version=9), "version_unknown"),
    "no model": (pow_with(model_identifier=None), "identity_unknown"),
    "a label nobody replays": (pow_with(compute_precision="int8"), "precision_unsupported"),
}


class OneSlot(unittest.TestCase):
    """The engine alone: determinism, payload spellings, wrong payloads."""

    def test_engine(self) -> None:
        collector = free_port()  # nobody listens: proofs wait in the queue, files are written
        with (
            tempfile.TemporaryDirectory() as save,
            patched("--parallel", "1", collector=collector, save=Path(save)) as engine,
        ):
            self.check_determinism(engine, Path(save))
            self.check_wrong(engine)

    def complete(self, engine: LlamaServer, member: str, payload: Any, tokens: int = 600) -> str:
        body = {
            "prompt": "The river runs through the",
            "max_tokens": tokens,
            "ignore_eos": True,
            "cache_prompt": False,
            "temperature": 1.0,
            "top_k": 50,
            "top_p": 1.0,
            member: {"pow": payload},
        }
        status, answer = engine.post("/v1/completions", body)
        self.assertEqual(status, 200, answer)
        return str(answer["choices"][0]["text"])

    def check_determinism(self, engine: LlamaServer, save: Path) -> None:
        def evidence() -> list[str]:
            files = sorted(save.glob("*.bin"))
            return sorted(Message(f.read_bytes()).evidence for f in files)

        first = self.complete(engine, "extra_sampling_params", POW)
        self.assertTrue(settled(lambda: len(evidence()) == 2), "two windows are two files")
        once = evidence()
        again = self.complete(engine, "vllm_xargs", json.dumps(POW))
        self.assertEqual(first, again, "same pow, same prompt, same text")
        self.assertTrue(settled(lambda: len(list(save.glob("*.bin"))) in (2, 4)))
        settled(lambda: len(evidence()) == 4, 5)
        self.assertEqual(set(evidence()), set(once), "same evidence, bit for bit")
        other = self.complete(engine, "extra_sampling_params", pow_with(tick=65536))
        self.assertNotEqual(first, other, "another tick, another draw")
        print(
            f"  evidence of the first window {once[0][:16]}…, text {hashlib.sha256(first.encode()).hexdigest()[:16]}…"
        )

    def check_wrong(self, engine: LlamaServer) -> None:
        for kind, (payload, label) in WRONG.items():
            with self.subTest(kind):
                name = f'tensorpow_not_mined_total{{reason="{label}"}}'
                before = engine.metrics().get(name, 0)
                self.assertNotEqual(self.complete(engine, "extra_sampling_params", payload, tokens=8), "")
                self.assertEqual(engine.metrics()[name], before + 1, name)


if __name__ == "__main__":
    unittest.main(verbosity=2)
