"""What is counted, as Prometheus text at vLLM's own `/metrics`.

The processes that sample are not the one that serves HTTP. Each opens a Unix socket in a folder
that the first process made and the others inherit by the environment; whoever connects gets the
text. The folder is readable by its owner alone.
"""

import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import MutableMapping
from multiprocessing import util
from pathlib import Path

from tensorpow_vllm.miner import Miner

log = logging.getLogger("vllm.tensorpow")

RUN_DIR = "TENSORPOW_VLLM_RUN_DIR"
LIMIT = 4 * 1024 * 1024
PATIENCE_S = 1.0


class Status:
    """What the plugin itself has to say, beside the engine side of tensorpow."""

    def __init__(self) -> None:
        self._refused: dict[str, int] = {}
        self._info: dict[str, str] = {}

    def refuse(self, label: str) -> None:
        """Mining is refused for this process."""
        self._refused[label] = self._refused.get(label, 0) + 1

    def start(self, **info: str) -> None:
        """Mining runs, in this way."""
        self._info = info

    def text(self, miner: Miner | None) -> str:
        """Everything as Prometheus text."""
        lines = []
        if self._refused:
            lines += _head("tensorpow_vllm_refused", "Mining is refused for this server.", "gauge")
            lines += [f'tensorpow_vllm_refused{{reason="{label}"}} 1' for label in self._refused]
        if self._info:
            labels = ",".join(f'{key}="{value}"' for key, value in self._info.items())
            lines += _head("tensorpow_vllm_info", "How this process mines.", "gauge")
            lines.append(f"tensorpow_vllm_info{{{labels}}} 1")
        if miner is None:
            return "".join(f"{line}\n" for line in lines)
        name = "tensorpow_vllm_step_failures_total"
        lines += _head(name, "Steps in which the plugin failed; their requests went on unmined.")
        lines.append(f"{name} {miner.failures}")
        name = "tensorpow_vllm_requests_lost_total"
        lines += _head(name, "Requests whose steps did not add up; they went on unmined.")
        lines.append(f"{name} {miner.tracker.lost}")
        name = "tensorpow_vllm_requests_parked"
        lines += _head(name, "Requests that wait for the nonce of a window.", "gauge")
        lines.append(f"{name} {miner.waiting}")
        engine = "" if miner.engine is None else miner.engine.metrics()
        return "".join(f"{line}\n" for line in lines) + engine


def _head(name: str, help_: str, kind: str = "counter") -> list[str]:
    return [f"# HELP {name} {help_}", f"# TYPE {name} {kind}"]


status = Status()


def prepare(env: MutableMapping[str, str] = os.environ) -> None:
    """Makes the folder, in the first process that loads the plugin."""
    if RUN_DIR not in env:
        folder = tempfile.mkdtemp(prefix="tensorpow-vllm-")
        env[RUN_DIR] = folder
        util.Finalize(None, shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, exitpriority=0)


def serve(miner: Miner | None) -> None:
    """Answers whoever asks this process, from a thread of its own."""
    folder = os.environ.get(RUN_DIR)
    if not folder:
        return
    path = Path(folder) / f"{os.getpid()}.sock"
    try:
        path.unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(str(path))
        listener.listen(8)
    except OSError as why:
        log.warning("tensorpow: /metrics will not show this process: %s", why)
        return
    util.Finalize(None, path.unlink, kwargs={"missing_ok": True}, exitpriority=10)
    threading.Thread(target=_answer, args=(listener, miner), name="tensorpow-metrics", daemon=True).start()


def _answer(listener: socket.socket, miner: Miner | None) -> None:
    while True:
        try:
            connection, _ = listener.accept()
            with connection:
                connection.settimeout(PATIENCE_S)
                connection.sendall(status.text(miner).encode())
        except (OSError, RuntimeError) as why:
            # A client that went away, or an engine that is closed.
            log.debug("tensorpow: a scrape failed: %s", why)


def gather() -> str:
    """The text of all processes; the families of several are told apart by their process."""
    folder = os.environ.get(RUN_DIR)
    paths = sorted(Path(folder).glob("*.sock")) if folder else []
    texts = {path.stem: text for path in paths if (text := _ask(path))}
    if not texts:
        return status.text(None)
    return next(iter(texts.values())) if len(texts) == 1 else _merged(texts)


def _ask(path: Path) -> str:
    chunks: list[bytes] = []
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE_S)
            connection.connect(str(path))
            while sum(map(len, chunks)) < LIMIT and (chunk := connection.recv(65536)):
                chunks.append(chunk)
    except OSError:
        return ""  # a process that ended without tidying up
    return b"".join(chunks).decode("utf-8", "replace")


def _merged(texts: dict[str, str]) -> str:
    """Every family once, its samples with a `process` label."""
    families: dict[str, list[str]] = {}
    for process, text in texts.items():
        family = ""
        for line in text.splitlines():
            if line.startswith("# HELP "):
                family = line.split(" ", 3)[2]
                families.setdefault(family, [line])
            elif line.startswith("# TYPE "):
                if line not in families[family]:
                    families[family].append(line)
            elif line:
                name, _, value = line.rpartition(" ")
                labels = name[:-1] + "," if name.endswith("}") else name + "{"
                families[family].append(f'{labels}process="{process}"}} {value}')
    return "".join(f"{line}\n" for lines in families.values() for line in lines)
