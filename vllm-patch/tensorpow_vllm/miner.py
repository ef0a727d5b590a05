"""The mined step, without a word of vLLM: which rows are chosen, by whom, and what happens when a
window's nonce is not there yet.

One miner lives in every process that samples. Only the driver's has an engine: it chooses, proves
and sends; the others are told its tokens, so that all ranks feed the same one to the model.
"""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import tensorpow

from tensorpow_vllm.arrivals import Arrival
from tensorpow_vllm.settings import Settings
from tensorpow_vllm.tracker import Progress, Tracker

log = logging.getLogger("vllm.tensorpow")

WINDOW = 256
STOCK = -1
"""In place of a token: this row keeps the token of vLLM's own sampler."""
IDLE_WAIT_S = 0.005
"""Wait of a step that has nothing else to do."""

Outcome = int | tensorpow.Stopped


class Backend(Protocol):
    """Chooses tokens from logits, wherever they are."""

    name: str

    def widened(self, logits: Any) -> Any:
        """The logits as float32 where that is read; vLLM's sampler begins with the same."""
        ...

    def choose(
        self, engine: tensorpow.Engine, sequences: list[tensorpow.Sequence], logits: Any, rows: list[int]
    ) -> list[Outcome]:
        """The token of `sequences[i]` from row `rows[i]`; `logits` is not written to."""
        ...


@dataclass(frozen=True)
class Chosen:
    """The tokens of a step."""

    rows: list[int]
    tokens: list[int]
    is_all: bool
    """Every row of the batch is among `rows`."""


@dataclass
class Miner:
    """The mining side of a process."""

    engine: tensorpow.Engine | None
    """None where another rank drives."""
    backend: Backend
    settings: Settings
    vocab: int
    random_suffix: bool = False
    share: Callable[[list[int]], list[int]] | None = None
    """Gives every rank the driver's list; None when there is one rank."""
    failures: int = 0
    """Steps in which something of ours failed; their requests go on without mining."""
    slots: int = 0
    tracker: Tracker = field(init=False)
    _due: list[Progress] = field(default_factory=list)
    _waiting: dict[str, float] = field(default_factory=dict)
    """Requests whose next token begins a window, and when their patience ends."""

    def __post_init__(self) -> None:
        self.tracker = Tracker(self._begin, self.random_suffix, keep_unmined=self.share is not None)

    def begin_step(self, output: Any, announced: Sequence[Any] = ()) -> None:
        """Takes in what the scheduler decided for the step."""
        self._due = self.tracker.update(output, announced)

    def choose(self, logits: Any, req_ids: Sequence[str]) -> Chosen | None:
        """Chooses the tokens of the step's mined rows; row `i` of `logits` is `req_ids[i]`'s.

        None when no row is chosen here.
        """
        due, self._due = self._due, []
        if not due:
            return None
        if logits is None or len(req_ids) != len(logits):
            # Not one row for each request: some way of sampling that is not followed here.
            for progress in due:
                self.tracker.lose(progress)
            return None
        place = {req_id: row for row, req_id in enumerate(req_ids)}
        placed = []
        for progress in due:
            if progress.req_id in place:
                placed.append((place[progress.req_id], progress))
            else:
                self.tracker.lose(progress)
        placed.sort(key=lambda one: one[0])
        tokens = [STOCK] * len(placed)
        if self.engine is not None:
            tokens = self._drive(self.engine, logits, placed)
        if self.share is not None:
            tokens = self.share(tokens)
        for _, progress in placed:
            progress.drawn += 1
        rows = [row for (row, _), token in zip(placed, tokens, strict=True) if token != STOCK]
        tokens = [token for token in tokens if token != STOCK]
        return Chosen(rows, tokens, len(rows) == len(req_ids)) if rows else None

    def end_step(self) -> None:
        """After the step: what should have been chosen and was not, has been sampled elsewhere."""
        due, self._due = self._due, []
        for progress in due:
            self.tracker.lose(progress)

    def parked(self, *, idle: bool = False) -> frozenset[str]:
        """Requests whose next token has to wait for the nonce of its window.

        `idle` says that nothing is computed meanwhile, so a short wait costs nobody anything.
        """
        waiting = frozenset(req_id for req_id in list(self._waiting) if not self._settled(req_id))
        if waiting and idle:
            progress = self.tracker.following[min(waiting)]
            if progress.sequence is not None:
                progress.sequence.ready(IDLE_WAIT_S)
            waiting = frozenset(req_id for req_id in waiting if not self._settled(req_id))
        return waiting

    @property
    def is_due(self) -> bool:
        """A row of this step may be chosen here."""
        return bool(self._due)

    @property
    def waiting(self) -> int:
        """Requests that wait for a nonce."""
        return len(self._waiting)

    def close(self) -> None:
        """Ends all requests and sends what is finished."""
        for req_id in list(self.tracker.following):
            self.tracker.drop(req_id, "cancelled")
        if self.engine is not None:
            self.engine.close()

    def _begin(self, arrival: Arrival) -> tensorpow.Sequence | None:
        if self.engine is None:
            return None
        self.slots += 1
        try:
            sequence = self.engine.begin(
                arrival.pow,
                arrival.prompt_ids,
                self.vocab,
                completion_id=arrival.completion_id,
                temperature=arrival.temperature,
                top_k=arrival.top_k,
                top_p=arrival.top_p,
                repetition_penalty=arrival.repetition_penalty,
                exclusions=arrival.exclusions,
                slot_id=self.slots % 2**31,
            )
        except (tensorpow.NotMined, TypeError, ValueError):
            return None  # counted where it was raised
        except RuntimeError:
            self._failed("a request could not begin")
            return None
        if not sequence.ready():
            self._waiting[arrival.req_id] = time.monotonic() + self.settings.park_s
        return sequence

    def _drive(self, engine: tensorpow.Engine, logits: Any, placed: list[tuple[int, Progress]]) -> list[int]:
        """The driver's tokens; whatever fails here, the step goes on with vLLM's own."""
        mined = [at for at, (_, progress) in enumerate(placed) if progress.sequence is not None]
        tokens = [STOCK] * len(placed)
        if not mined:
            return tokens
        members = [placed[at][1] for at in mined]
        try:
            self._wait_for(members)
            sequences = [one.sequence for one in members if one.sequence is not None]
            outcomes = self.backend.choose(engine, sequences, logits, [placed[at][0] for at in mined])
        except Exception:  # noqa: BLE001 - whatever it is, it must not end the server
            self._failed(f"a step of {len(members)} requests")
            outcomes = []
            for progress in members:
                self._stop(progress, "error")
        for at, outcome in zip(mined, outcomes, strict=False):
            progress = placed[at][1]
            if isinstance(outcome, tensorpow.Stopped):
                self._stop(progress, "error")
                continue
            tokens[at] = outcome
            sequence = progress.sequence
            if (progress.drawn + 1) % WINDOW == 0 and sequence is not None and not sequence.ready():
                self._waiting[progress.req_id] = time.monotonic() + self.settings.park_s
        return tokens

    def _wait_for(self, members: list[Progress]) -> None:
        """Requests that could not be left out of the step: they wait a little, all together."""
        late = [one for one in members if one.req_id in self._waiting and one.sequence is not None]
        until = time.monotonic() + self.settings.step_wait_s
        for progress in late:
            sequence = progress.sequence
            if sequence is not None and not sequence.ready(max(0.0, until - time.monotonic())):
                sequence.forgo_admission()
            self._waiting.pop(progress.req_id, None)

    def _settled(self, req_id: str) -> bool:
        """True when a request waits no longer; one without patience is mined without a nonce."""
        progress = self.tracker.following.get(req_id)
        if progress is not None and progress.sequence is not None and not progress.sequence.ready():
            if time.monotonic() < self._waiting[req_id]:
                return False
            progress.sequence.forgo_admission()
        del self._waiting[req_id]
        return True

    def _stop(self, progress: Progress, reason: str) -> None:
        """Ends the mining of a request; where ranks go in step it is followed on."""
        if progress.sequence is not None:
            progress.sequence.end(reason)  # type: ignore[arg-type]
            progress.sequence = None
        if self.share is None:
            self.tracker.drop(progress.req_id, reason)

    def _failed(self, what: str) -> None:
        self.failures += 1
        # The first is worth its trace; the rest are counted.
        if self.failures == 1:
            log.exception("tensorpow: %s failed; vLLM serves on without mining it", what)
