"""A llama-server process for tests: start on a free port, ask it over HTTP, stop it.

Also where the tests' binaries and model come from: the environment, or the build tool beside this folder.
"""

from __future__ import annotations

import functools
import http.client
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any, Self

PATCH_DIR = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PATCH_DIR))

from llama_build.cache import cache_root

START_LIMIT_S = 120.0
ANSWER_LIMIT_S = 300.0

Json = dict[str, Any]


def _last_line(command: list[str], **env: str) -> Path:
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, **env})
    return Path(done.stdout.strip().splitlines()[-1])


@functools.cache
def stock_binary() -> Path:
    """The unpatched server (`LLAMA_SERVER_STOCK`, else the build tool)."""
    given = os.environ.get("LLAMA_SERVER_STOCK")
    return Path(given) if given else _last_line([str(PATCH_DIR / "build"), "--stock"])


@functools.cache
def stub_binary() -> Path:
    """The patched server without the library (`LLAMA_SERVER_STUB`, else the build tool)."""
    given = os.environ.get("LLAMA_SERVER_STUB")
    return Path(given) if given else _last_line([str(PATCH_DIR / "build"), "--stub"])


@functools.cache
def recorder_binary() -> Path:
    """The patched server with the recording library (`LLAMA_SERVER_RECORDER`, else the build tool)."""
    given = os.environ.get("LLAMA_SERVER_RECORDER")
    if given:
        return Path(given)
    # in the cache, so that the same library is found again and nothing is linked twice
    folder = cache_root() / "recorder"
    folder.mkdir(parents=True, exist_ok=True)
    archive, built = folder / "librecorder.a", folder / "recorder.o"
    source = PATCH_DIR / "tests" / "recorder" / "tensorpow_recorder.cpp"
    compiler = os.environ.get("CXX", "c++")
    header = str(PATCH_DIR / "stub")
    command = [compiler, "-std=c++17", "-O2", "-I", header, "-c", str(source), "-o", str(built)]
    subprocess.run(command, check=True)
    archive.unlink(missing_ok=True)
    subprocess.run(["ar", "rcs", str(archive), str(built)], check=True)
    return _last_line([str(PATCH_DIR / "build")], TENSORPOW_LIB=str(archive))


@functools.cache
def model_file() -> Path:
    """The small real model (`LLAMA_MODEL`, else the fetching tool)."""
    given = os.environ.get("LLAMA_MODEL")
    return Path(given) if given else _last_line([str(PATCH_DIR / "model")])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class LlamaServer:
    """One running llama-server; use as a context manager."""

    def __init__(self, binary: Path, *args: str, env: dict[str, str] | None = None) -> None:
        self.port = free_port()
        self._log = tempfile.NamedTemporaryFile(prefix="llama-server-", suffix=".log")  # noqa: SIM115
        command = [str(binary), "-m", str(model_file()), "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "-t", "1", "--parallel", "2", "-c", "4096"]
        command += ["--cache-ram", "0", "--no-ui", "--metrics", *args]
        self.process = subprocess.Popen(
            command, stdout=self._log, stderr=subprocess.STDOUT, env={**os.environ, **(env or {})}
        )

    def __enter__(self) -> Self:
        deadline = time.monotonic() + START_LIMIT_S
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"llama-server ended early:\n{self.log()}")
            try:
                if self.request("GET", "/health")[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"llama-server did not start in {START_LIMIT_S} s:\n{self.log()}")

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def log(self) -> str:
        return Path(self._log.name).read_text(errors="replace")

    def request(self, method: str, path: str, body: Json | None = None) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT_S)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Json) -> tuple[int, Json]:
        status, raw = self.request("POST", path, body)
        parsed: Json = json.loads(raw)
        return status, parsed

    def post_and_leave(self, path: str, body: Json, after_s: float) -> None:
        """Sends a request and closes the connection some seconds later, whatever came."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port)
        try:
            connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
            time.sleep(after_s)
        finally:
            connection.close()

    def stream(self, path: str, body: Json) -> Generator[str, None, None]:
        """The data of each server-sent event. Closing the iterator drops the connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT_S)
        try:
            payload = json.dumps({**body, "stream": True})
            connection.request("POST", path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            while line := answer.readline():
                if line.startswith(b"data: "):
                    yield line[len(b"data: ") :].decode().strip()
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """`/metrics`, checked line by line for the Prometheus text format."""
        status, raw = self.request("GET", "/metrics")
        if status != 200 or not raw.endswith(b"\n"):
            raise AssertionError(f"/metrics answered {status}: {raw[-200:]!r}")
        values: dict[str, float] = {}
        for line in raw.decode().splitlines():
            if not line.startswith(("# HELP ", "# TYPE ")):
                name, value = line.rsplit(" ", 1)
                if name in values:
                    raise AssertionError(f"metric twice: {line}")
                values[name] = float(value)
        return values

    def wait_idle(self) -> None:
        """Returns when no slot works any more (a dropped connection is noticed within a second)."""
        deadline = time.monotonic() + 30
        while self.metrics()["llamacpp:requests_processing"] > 0:
            if time.monotonic() > deadline:
                raise AssertionError("a slot is still busy 30 s after its client left")
            time.sleep(0.1)
