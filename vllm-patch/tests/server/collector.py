"""Stands in for whom proofs are sent to: a PULL socket that keeps every mining response.

A process of its own thread; the peer is libzmq in the engine's process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

import tensorpow
import zmq  # type: ignore[import-not-found]

POLL_MS = 50


class Collector:
    """Collects proofs; use as a context manager."""

    def __init__(self) -> None:
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.PULL)
        self.port = int(self._socket.bind_to_random_port("tcp://127.0.0.1"))
        self._messages: list[bytes] = []
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._collect, name="collector")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._thread.join()
        self._socket.close(0)
        self._context.term()

    def _collect(self) -> None:
        while not self._stopping.is_set():
            if self._socket.poll(POLL_MS):
                self._messages.append(self._socket.recv())

    @property
    def settings(self) -> dict[str, str]:
        """What an engine's environment has to say to send here."""
        return {"POW_EGRESS_MODE": "broker", "ZMQ_PUSH_HOST": "127.0.0.1", "ZMQ_PUSH_PORT": str(self.port)}

    def proofs(self) -> list[tensorpow.Proof]:
        """Everything that arrived, in order."""
        return [tensorpow.Proof.from_bytes(message) for message in list(self._messages)]

    def of(self, completion: str) -> list[tensorpow.Proof]:
        """The proofs of one completion."""
        return [p for p in self.proofs() if p.message is not None and p.message.completion_id == completion]

    def settled(self, completion: str, expected: int) -> list[tensorpow.Proof]:
        """The proofs of a completion once as many have come as should, and a moment for one too many."""
        eventually(lambda: len(self.of(completion)) >= expected)
        return self.of(completion)


def eventually(condition: Callable[[], bool], seconds: float = 20) -> bool:
    """Waits for what happens behind an answer: closing and sending of windows."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
