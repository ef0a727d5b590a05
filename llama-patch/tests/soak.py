"""Users and backfill together for ten minutes: the proxy, the patched llama-server, a small real model.

    python3 llama-patch/tests/soak.py [--minutes 10] [--clients 32] [--slots 8] [--rest 150]

`make soak` runs it. Clients stream chat and text of many lengths, with pauses that leave the engine idle for
part of the time (`--rest`); the proxy fills what they leave
with backfill. First a fifth of the time goes without backfill, for comparison. At the end:

* every proof that came verifies, by the library and by `proof_reader`, and the chain refused none;
* every mined answer of at least a window left its proofs, and backfill left proofs too;
* no answer failed, and users' streams begin as they do without backfill, or at least within the time that
  the proxy promises (`priority.first_token`); both are printed.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from completions import TOPICS, Asked, chat, text
from llama_server import LlamaServer, free_port
from miner import ANY_SHARE, Devnet, Library, cargo_target, patched, settled
from proof_reader import WINDOW, Message

LENGTHS = [16, 40, 40, 80, 80, 160, 300]
# A share of all streams that may begin later than the slowest without backfill and than promised.
LATE = 0.02
# `priority.first_token`, in seconds.
PROMISED = 0.75


@dataclass
class Answer:
    """What a user saw of one stream."""

    asked: Asked
    began: float = 0.0
    pieces: int = 0


@dataclass
class Crowd:
    """Clients that ask, read, and rest."""

    port: int
    rest: float
    answers: list[Answer] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def run(self, clients: int, seconds: float) -> None:
        end = time.monotonic() + seconds
        threads = [threading.Thread(target=self.client, args=(n, end)) for n in range(clients)]
        for thread in threads:
            thread.start()
        while time.monotonic() < end:
            time.sleep(min(15.0, max(0.1, end - time.monotonic())))
            print(f"  {max(0, end - time.monotonic()):>4.0f} s left, {len(self.answers)} answers", flush=True)
        for thread in threads:
            thread.join()

    def client(self, number: int, end: float) -> None:
        dice = random.Random(number)
        time.sleep(min(dice.random() * self.rest, max(0.0, end - time.monotonic())))
        while time.monotonic() < end:
            make = dice.choice([chat, text])
            length = dice.choice(LENGTHS)
            asked = make(
                f"client {number}", dice.choice(TOPICS), length, stream=True, ignore_eos=length > 200
            )
            try:
                answer = self.stream(asked)
                with self.lock:
                    self.answers.append(answer)
            except (OSError, http.client.HTTPException, ValueError) as error:
                with self.lock:
                    self.failures.append(f"{asked.kind}: {error!r}")
            time.sleep(min(dice.expovariate(1 / self.rest), max(0.0, end - time.monotonic())))

    def stream(self, asked: Asked) -> Answer:
        answer = Answer(asked)
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        try:
            asked.body["stream_options"] = {"include_usage": True}
            sent = time.monotonic()
            connection.request(
                "POST", asked.path, json.dumps(asked.body), {"Content-Type": "application/json"}
            )
            reply = connection.getresponse()
            asked.mining = reply.headers.get("x-tensorpow-mining", "")
            if reply.status != 200:
                raise ValueError(f"{reply.status} {reply.read()[:200]!r}")
            ended = False
            while line := reply.readline():
                if not line.startswith(b"data: "):
                    continue
                answer.began = answer.began or time.monotonic() - sent
                answer.pieces += 1
                if line.strip() == b"data: [DONE]":
                    ended = True
                    continue
                event = json.loads(line[len(b"data: ") :])
                asked.id = event.get("id") or asked.id
                if usage := event.get("usage"):
                    asked.tokens = usage["completion_tokens"]
            if not ended:
                raise ValueError("the stream broke off")
        finally:
            connection.close()
        return answer


def phase(
    name: str, engine: LlamaServer, collector: int, backfill: int, options: Options, seconds: float
) -> Run:
    """One stretch of time with its own proxy."""
    print(f"{name}: {seconds:.0f} s", flush=True)
    # a tip that moves with every other window, as the development chain's does, would end all backfill
    devnet = Devnet(engine.port, collector, 2, backfill, "--block-bits", "0x2003ffff")
    try:
        devnet.wait_ready()
        devnet.wait_mining()
        crowd = Crowd(devnet.port, options.rest)
        crowd.run(options.clients, seconds)
        if backfill == 0:
            engine.wait_idle()
        proofs = sum(
            len(devnet.settled_proofs(a.asked.id, a.asked.tokens // WINDOW))
            for a in crowd.answers
            if a.asked.mining == "mined" and a.asked.tokens >= WINDOW
        )
        metrics = devnet.get("/metrics")[1].decode()
        return Run(crowd, proofs, metrics)
    except BaseException:
        print(devnet.log()[-6000:], file=sys.stderr)
        raise
    finally:
        devnet.stop()


@dataclass
class Run:
    """What one phase came to."""

    crowd: Crowd
    proofs: int
    metrics: str

    def metric(self, name: str, *labels: str) -> int:
        total = 0.0
        for line in self.metrics.splitlines():
            if line.startswith(name) and all(label in line for label in labels):
                total += float(line.rsplit(" ", 1)[1])
        return int(total)

    def begins(self) -> list[float]:
        return sorted(answer.began for answer in self.crowd.answers)

    def windows(self) -> int:
        mined = (a.asked for a in self.crowd.answers if a.asked.mining == "mined")
        return sum(asked.tokens // WINDOW for asked in mined)

    def describe(self) -> str:
        begins = self.begins()
        middle, late = statistics.median(begins), begins[int(0.95 * (len(begins) - 1))]
        mining = Counter(answer.asked.mining for answer in self.crowd.answers)
        return (
            f"  {len(begins)} answers {dict(mining)}, {len(self.crowd.failures)} failed\n"
            f"  streams begin after {middle:.2f} s (p50), {late:.2f} s (p95), {begins[-1]:.2f} s (max)\n"
            f"  {self.proofs} proofs of users' {self.windows()} windows; "
            f"backfill: {self.metric('tensorpow_backfill_requests_total', 'complete')} complete, "
            f"{self.metric('tensorpow_backfill_requests_total', 'cancelled')} cancelled"
        )


@dataclass
class Options:
    """The command line."""

    minutes: float
    clients: int
    slots: int
    rest: float


def check(run: Run, library: Library, save: Path) -> list[str]:
    """What is wrong."""
    wrong = list(run.crowd.failures)
    refused = [
        line
        for line in run.metrics.splitlines()
        if line.startswith(("tensorpow_proofs_judged_total", "tensorpow_proofs_dropped_total"))
        and not any(w in line for w in ("share", "block", "stale", "already_submitted"))
        and not line.endswith(" 0")
    ]
    wrong += [f"refused: {line}" for line in refused]
    if run.proofs != run.windows():
        wrong.append(f"{run.windows()} windows of users left {run.proofs} proofs")
    for file in save.iterdir():
        if file.suffix != ".bin":
            continue
        message = Message(file.read_bytes())
        if reason := library.check(message.data):
            wrong.append(f"{file.name}: {reason}")
        wrong += [f"{file.name}: {problem}" for problem in message.problems(ANY_SHARE)]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Users and backfill together.")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument("--rest", type=float, default=150, help="seconds between two requests of a client")
    given = parser.parse_args()
    options = Options(given.minutes, given.clients, given.slots, given.rest)
    library = Library(cargo_target() / "libtensorpow.so")
    collector, seconds = free_port(), 60 * options.minutes
    with tempfile.TemporaryDirectory() as folder:
        save = Path(folder)
        slots = ("--parallel", str(options.slots), "-c", str(1024 * options.slots), "-t", "2")
        with patched(*slots, collector=collector, save=save) as engine:
            alone = phase("users alone", engine, collector, 0, options, seconds / 5)
            print(alone.describe(), flush=True)
            busy = phase("users and backfill", engine, collector, options.slots, options, seconds)
            settled(lambda: engine.metrics()["tensorpow_sequences_active"] == 0)
        print(busy.describe(), flush=True)
        files = sum(file.suffix == ".bin" for file in save.iterdir())
        wrong = [*check(alone, library, save), *busy.crowd.failures]
        wrong += [w for w in check(busy, library, save) if w not in wrong]
        received = busy.metric("tensorpow_proofs_received_total")
        verdicts = {v: busy.metric("tensorpow_proofs_judged_total", v) for v in ("share", "block", "stale")}
        print(f"  {received} proofs received with backfill, judged {verdicts}; {files} files, all replayed")
        if received <= busy.proofs:
            wrong.append("backfill left no proof")
        slowest = max(PROMISED, *alone.begins())
        late = sum(began > slowest for began in busy.begins())
        print(f"  {late} of {len(busy.begins())} streams began later than {slowest:.2f} s")
        if late > LATE * len(busy.begins()):
            wrong.append("users wait for backfill")
    for problem in wrong[:20]:
        print(f"WRONG: {problem}")
    print("soak: failed" if wrong else "soak: passed")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
