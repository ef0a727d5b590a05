"""Thirty real completions through the proxy, four at a time, against the patched and the stock server.

Run by `make test-llama`. Starts the patched llama-server with the real library, `tensorpow devnet` in front
of it, and the stock server beside them; then checks what a miner and a user rely on: every window that
should exist is a proof that verifies (by the library's own check and by `proof_reader`, which shares no code
with it), nothing else leaves one, and whoever does not mine gets the stock server's text.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tempfile
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

from completions import MODEL, TOPICS, Asked, ask, cancelled, chat, text, thirty, unmined
from llama_server import Json, LlamaServer, free_port, stock_binary
from miner import ANY_SHARE, Devnet, Library, cargo_target, patched, settled, tensorpow
from proof_reader import WINDOW, Message


class WithDevnet(unittest.TestCase):
    """Completions through the proxy, and what is expected of their proofs."""

    library: ClassVar[Library]

    @classmethod
    def setUpClass(cls) -> None:
        cls.library = Library(cargo_target() / "libtensorpow.so")

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
                    # of a character in pieces llama-server tells the last token only, and none of one
                    # that the end cuts off
                    pieces = 3 + sum(len(c.encode()) - 1 for c in asked.text)
                    self.assertLessEqual(asked.logprobs, asked.tokens)
                    self.assertGreaterEqual(asked.logprobs, asked.tokens - pieces)
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


class ThirtyCompletions(WithDevnet):
    """The whole chain under mixed load."""

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
                    for asked in pool.map(devnet.ask, run):
                        print(f"  {asked.kind:<28} {asked.tokens:>5} tokens  {asked.mining}", flush=True)
                print(f"  {time.monotonic() - began:.0f} s for 30 completions, 4 at a time")
                engine.wait_idle()
                total = self.check_windows(devnet, run)
                self.assertGreater(total, 15)
                self.check_files(Path(save), total)
                self.check_counters(engine, devnet, total)
                self.check_texts(devnet, run)
            except BaseException:
                print(devnet.log()[-6000:], file=sys.stderr)
                raise
            finally:
                devnet.stop()

    def check_counters(self, engine: LlamaServer, devnet: Devnet, total: int) -> None:
        metrics = engine.metrics()
        sent = sum(v for k, v in metrics.items() if k.startswith("tensorpow_proofs_sent_total"))
        dropped = {k: v for k, v in metrics.items() if k.startswith("tensorpow_proofs_dropped_total") and v}
        failed = {k: v for k, v in metrics.items() if "self_check" in k and v}
        self.assertEqual((sent, dropped, failed), (total, {}, {}))
        self.assertEqual(metrics["tensorpow_sequences_active"], 0)
        text = devnet.get("/metrics")[1].decode()
        # proofs on a parent that was overtaken, or a second block of one job, are not the engine's fault;
        # everything else would be
        fine = tuple(f'verdict="{v}"' for v in ("block", "share", "stale", "already_submitted"))
        fine += ('reason="stale_parent"',)
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


class Admission(WithDevnet):
    """Version 3: every window carries a nonce, and a slot that waits for one holds up nobody."""

    def test_windows_are_admitted(self) -> None:
        collector = free_port()
        with (
            tempfile.TemporaryDirectory() as save,
            patched(
                "--parallel", "2", collector=collector, save=Path(save), POW_V3_ADMISSION_MODE="always"
            ) as engine,
        ):
            devnet = Devnet(engine.port, collector, version=3)
            forever = {"ignore_eos": True}
            run = [
                chat("two windows", TOPICS[0], 520, **forever),
                text("one window, streamed", TOPICS[1], 300, stream=True, **forever),
                cancelled(chat("cancelled early", TOPICS[2], 900, **forever), after=40),
                unmined(chat("not the profile", TOPICS[3], 280, seed=5, **forever)),
                text("one window", TOPICS[4], 256, **forever),
            ]
            try:
                devnet.wait_ready()
                with ThreadPoolExecutor(2) as pool:
                    for asked in pool.map(devnet.ask, run):
                        print(f"  {asked.kind:<28} {asked.tokens:>5} tokens  {asked.mining}", flush=True)
                engine.wait_idle()
                total = self.check_windows(devnet, run)
                self.assertEqual(total, 4)
                self.check_files(Path(save), total)
                self.check_nonces(sorted(Path(save).glob("*.bin")))
                found = engine.metrics()['tensorpow_admission_windows_total{outcome="found"}']
                self.assertGreaterEqual(found, total)
            except BaseException:
                print(devnet.log()[-6000:], file=sys.stderr)
                raise
            finally:
                devnet.stop()

    def check_nonces(self, files: list[Path]) -> None:
        """Each file has a nonce of its own, the node's rules take it, and its compact form is the proof."""
        nonces = {Message(file.read_bytes()).nonce for file in files}
        self.assertEqual({len(nonce) for nonce in nonces}, {32})
        self.assertEqual(len(nonces), len(files))
        chain = ["--network", "mainnet", "--height", "8000", "--difficulty", "1000000"]
        for file in files:
            done = self.proof_command("verify", *chain, "--json", str(file))
            verdict = json.loads(done.stdout)
            with self.subTest(verdict):
                # a share is everything but a block
                accepted = verdict["is_solution"]
                self.assertEqual(verdict["check"], None if accepted else "Q45")
                self.assertEqual(done.returncode, 0 if accepted else 1)
                self.assertTrue(verdict["v3_active"])
            compact = file.with_suffix(".compact")
            self.assertEqual(
                self.proof_command("convert", "--to", "compact", "-o", str(compact), str(file)).returncode, 0
            )
            self.assertEqual(self.proof_command("diff", str(file), str(compact)).returncode, 0)
            share = compact.stat().st_size / file.stat().st_size
            print(f"  compact form: {100 * share:.1f} % of the message")
            self.assertLess(share, 0.31)

    def proof_command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [str(tensorpow()), "proof", *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


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
