"""A vLLM OpenAI server for tests: start on a free port, ask it over HTTP, stop it with all its processes."""

from __future__ import annotations

import contextlib
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_LIMIT_S = 300.0
ANSWER_LIMIT_S = 900.0
NAME = "smol"

Json = dict[str, Any]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def _turn() -> Iterator[None]:
    """One server at a time where `VLLM_TEST_LOCK` names a file: two of them share two cores badly."""
    name = os.environ.get("VLLM_TEST_LOCK")
    if not name:
        yield
        return
    with open(name, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class VllmServer:
    """One running server; use as a context manager."""

    def __init__(
        self,
        python: Path,
        model: Path,
        *args: str,
        env: Mapping[str, str] | None = None,
        dtype: str = "bfloat16",
        max_model_len: int = 2048,
    ) -> None:
        self.port = free_port()
        self._command = [str(python), "-P", "-m", "vllm.entrypoints.openai.api_server"]
        self._command += ["--model", str(model), "--served-model-name", NAME, "--enforce-eager"]
        self._command += ["--host", "127.0.0.1", "--port", str(self.port)]
        self._command += ["--dtype", dtype, "--max-model-len", str(max_model_len), *args]
        self._env = {
            **os.environ,
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            **(env or {}),
        }
        self._log = tempfile.NamedTemporaryFile(prefix="vllm-server-", suffix=".log")  # noqa: SIM115
        self._held = contextlib.ExitStack()
        self.process: subprocess.Popen[bytes] | None = None
        self.started_in_s = 0.0

    def __enter__(self) -> Self:
        self._held.enter_context(_turn())
        try:
            began = time.monotonic()
            # a group of its own: the engine is another process, which outlives a killed parent
            self.process = subprocess.Popen(
                self._command,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                env=self._env,
                start_new_session=True,
            )
            self._wait_healthy(self.process, began + START_LIMIT_S)
            self.started_in_s = time.monotonic() - began
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_healthy(self, process: subprocess.Popen[bytes], deadline: float) -> None:
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"vLLM ended early ({process.returncode}):\n{self.log()[-6000:]}")
            try:
                if self.request("GET", "/health")[0] == 200:
                    return
            except OSError:
                pass
            time.sleep(0.2)
        raise RuntimeError(f"vLLM did not start in {START_LIMIT_S:.0f} s:\n{self.log()[-6000:]}")

    def stop(self) -> None:
        """Ends the server in order, then whatever is left of its group."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._held.close()

    def log(self) -> str:
        """Everything it has said."""
        return Path(self._log.name).read_text(errors="replace")

    def request(
        self, method: str, path: str, body: Json | None = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, bytes]:
        """One request and its answer, whatever its status."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT_S)
        try:
            payload = None if body is None else json.dumps(body)
            connection.request(method, path, payload, {"Content-Type": "application/json", **(headers or {})})
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def post(self, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Json:
        """A request that has to be served."""
        status, raw = self.request("POST", path, body, headers)
        if status != 200:
            raise AssertionError(f"{path} answered {status}: {raw[:500]!r}\n{self.log()[-3000:]}")
        parsed: Json = json.loads(raw)
        return parsed

    def stream(self, path: str, body: Json) -> Generator[Json, None, None]:
        """The events of a streamed answer. Closing the iterator drops the connection."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_LIMIT_S)
        try:
            payload = json.dumps({**body, "stream": True})
            connection.request("POST", path, payload, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            if answer.status != 200:
                raise AssertionError(f"{path} answered {answer.status}: {answer.read()[:500]!r}")
            while line := answer.readline():
                text = line.removeprefix(b"data: ").strip()
                if line.startswith(b"data: ") and text != b"[DONE]":
                    yield json.loads(text)
        finally:
            connection.close()

    def metrics(self) -> dict[str, float]:
        """`/metrics`: values by name with labels."""
        status, raw = self.request("GET", "/metrics")
        if status != 200:
            raise AssertionError(f"/metrics answered {status}")
        lines = (line for line in raw.decode().splitlines() if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    def total(self, name: str) -> float:
        """A counter of vLLM's own, over all its labels; 0 where it was never touched."""
        return sum(value for key, value in self.metrics().items() if key.partition("{")[0] == name)

    def wait_idle(self) -> None:
        """Returns when no request is at work any more."""
        deadline = time.monotonic() + 60
        while self.total("vllm:num_requests_running") + self.total("vllm:num_requests_waiting"):
            if time.monotonic() > deadline:
                raise AssertionError("a request is at work 60 s after its client left")
            time.sleep(0.1)
