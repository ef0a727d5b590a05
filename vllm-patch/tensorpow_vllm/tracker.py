"""Where every mined request stands, from what the scheduler says and nothing else.

A step computes some positions of a request. Only when that reaches everything known of it, prompt
and tokens so far, is the token of the step kept; before, the step is a part of a prefill, or
computes again what a preemption threw away. spec: sampler §3
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from tensorpow import Sequence

from tensorpow_vllm.arrivals import Arrival, arrival_of

Begin = Callable[[Arrival], Sequence | None]
Lose = Callable[[str], None]


@dataclass
class Progress:
    """One request."""

    req_id: str
    prompt: Any
    """The prompt's ids, as the engine holds them."""
    sequence: Sequence | None
    """None for one that is followed without being mined."""
    drawn: int = 0
    """Tokens that the engine kept."""

    @property
    def total(self) -> int:
        """Positions known: prompt and tokens."""
        return len(self.prompt) + self.drawn


@dataclass
class Tracker:
    """All requests with a payload that this process follows.

    With `keep_unmined` those are followed too that are not mined here: in tensor parallelism the
    other ranks have to know which rows the driver may choose.
    """

    begin: Begin
    random_suffix: bool = False
    keep_unmined: bool = False
    following: dict[str, Progress] = field(default_factory=dict)
    _turned_away: set[str] = field(default_factory=set)
    """Announced requests that are not followed; they come once more, when they are scheduled."""
    lost: int = 0
    """Requests whose steps did not add up; they go on without mining."""

    def update(self, output: Any, announced: Iterable[Any] = ()) -> list[Progress]:
        """Takes in a SchedulerOutput; returns the requests whose tokens this step decides."""
        if self.following or self._turned_away:
            for req_id in output.finished_req_ids:
                self.drop(req_id, "finished")
                self._turned_away.discard(req_id)
        for request in announced:
            if not self._arrive(request):
                self._turned_away.add(request.req_id)
        for request in output.scheduled_new_reqs:
            if request.req_id in self._turned_away:
                self._turned_away.discard(request.req_id)
            else:
                self._arrive(request)
        if not self.following:
            return []
        return list(self._due(output))

    def drop(self, req_id: str, reason: str) -> None:
        """Ends a request, if it is followed."""
        progress = self.following.pop(req_id, None)
        if progress is not None and progress.sequence is not None:
            progress.sequence.end(reason)  # type: ignore[arg-type]

    def lose(self, progress: Progress) -> None:
        """Ends a request of which the engine does something that is not followed here."""
        self.lost += 1
        self.drop(progress.req_id, "continuity_lost")

    def _arrive(self, request: Any) -> bool:
        """Follows a new request; False when there is nothing to follow."""
        arrival = arrival_of(request, random_suffix=self.random_suffix)
        if arrival is None:
            return False
        known = self.following.get(arrival.req_id)
        if known is not None:
            # Announced before, or resumed where a runner sends resumed requests as new ones. With
            # another prompt it is a session that goes on, and its windows do not.
            if list(known.prompt) != list(arrival.prompt_ids):
                self.lose(known)
            return True
        sequence = self.begin(arrival)
        is_followed = sequence is not None or self.keep_unmined
        if is_followed:
            self.following[arrival.req_id] = Progress(arrival.req_id, arrival.prompt_ids, sequence)
        return is_followed

    def _due(self, output: Any) -> Iterator[Progress]:
        scheduled = output.num_scheduled_tokens
        cached = output.scheduled_cached_reqs
        kept = getattr(cached, "num_output_tokens", None)
        for at, (req_id, computed) in enumerate(zip(cached.req_ids, cached.num_computed_tokens, strict=True)):
            progress = self.following.get(req_id)
            if progress is None:
                continue
            if kept is not None and kept[at] != progress.drawn:
                # The engine took tokens back, or chose some that were not seen here.
                self.lose(progress)
            elif self._completes(progress, computed + scheduled[req_id]):
                yield progress
        for request in output.scheduled_new_reqs:
            progress = self.following.get(request.req_id)
            if progress is not None:
                reached = request.num_computed_tokens + scheduled[request.req_id]
                if self._completes(progress, reached):
                    yield progress

    def _completes(self, progress: Progress, reached: int) -> bool:
        if reached > progress.total:
            self.lose(progress)
        return reached == progress.total
