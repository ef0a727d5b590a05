"""What mines in the end-to-end run: `tensorpow devnet`, the patched llama-server behind it, and the proof
functions of libtensorpow."""

from __future__ import annotations

import ctypes
import http.client
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from completions import MODEL, Asked, ask
from llama_server import PATCH_DIR, LlamaServer, free_port
from proof_reader import Message

ROOT = PATCH_DIR.parent
ANY_SHARE = (1 << 256) - 1


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

    def __init__(
        self, engine_port: int, collector_port: int, version: int = 2, backfill: int = 0, *more: str
    ) -> None:
        self.port = free_port()
        self._log = tempfile.NamedTemporaryFile(prefix="devnet-", suffix=".log")  # noqa: SIM115
        command = [str(tensorpow()), "devnet", "--model", MODEL, "--proof-version", str(version)]
        command += ["--engine", f"http://127.0.0.1:{engine_port}", "--listen", f"127.0.0.1:{self.port}"]
        command += ["--collector", f"127.0.0.1:{collector_port}", "--interval", "2"]
        # Only what a test asks for is mined, unless it wants an engine that is kept busy.
        command += ["--set", f"backfill.min_active={backfill}", *more]
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

    def wait_mining(self) -> None:
        """Waits until requests are mined: a fraction of a second after a block its VDF is proved."""
        if not settled(lambda: bool(json.loads(self.get("/ready")[1])["mining"]["ready"]), 60):
            raise RuntimeError(f"devnet does not mine:\n{self.log()}")

    def ask(self, asked: Asked) -> Asked:
        """Asks while mining is possible. A block between the look and the question leaves it unmined:
        then it is asked again."""
        fresh = replace(asked)
        for _ in range(5):
            self.wait_mining()
            if "no_vdf" not in ask(self.port, asked).mining:
                return asked
            vars(asked).update(vars(fresh))
        raise AssertionError(f"{asked.kind}: never mined")

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
def patched(*args: str, collector: int, save: Path, **more: str) -> Iterator[LlamaServer]:
    """The patched server; `more` are variables of its environment."""
    env = {
        "POW_EGRESS_MODE": "broker",
        "ZMQ_PUSH_HOST": "127.0.0.1",
        "ZMQ_PUSH_PORT": str(collector),
        "PROOF_SAVE_DIR": str(save),
        **more,
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
