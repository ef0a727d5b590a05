"""Requests that wait for the nonce of a window are left out of steps, so that nobody else waits.

The scheduler and the process that samples may be two. They tell each other with what goes between
them anyway: the scheduler's output announces requests with a payload before they are scheduled,
and the runner's output answers which of them have to wait. A scheduler that gets no answer parks
nobody. spec: admission §10.2
"""

import functools
import inspect
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from tensorpow_vllm.arrivals import has_payload
from tensorpow_vllm.refusal import Refused

log = logging.getLogger("vllm.tensorpow")

SCHEDULER_MODULE = "vllm.v1.core.sched.scheduler"
GATE = "_tensorpow_gate"
ANNOUNCED = "tensorpow_announced"
PARKED = "tensorpow_parked"


@dataclass
class Announcement:
    """A request as the process that samples has to know it before it is scheduled."""

    req_id: str
    prompt_token_ids: Any
    sampling_params: Any
    lora_request: Any
    mm_features: bool
    prompt_embeds: bool | None
    pooling_params: Any

    @classmethod
    def of(cls, request: Any) -> "Announcement":
        """Of a scheduler's request."""
        names = ("mm_features", "mm_inputs", "mm_kwargs", "mm_positions", "mm_hashes")
        return cls(
            req_id=request.request_id,
            prompt_token_ids=request.prompt_token_ids,
            sampling_params=request.sampling_params,
            lora_request=request.lora_request,
            mm_features=any(getattr(request, name, None) for name in names),
            prompt_embeds=getattr(request, "prompt_embeds", None) is not None or None,
            pooling_params=getattr(request, "pooling_params", None),
        )


def announced(output: Any) -> list[Announcement] | None:
    """What a scheduler announced with a step; None when it parks nobody."""
    found: list[Announcement] | None = getattr(output, ANNOUNCED, None)
    return found


def answer(output: Any, parked: frozenset[str]) -> None:
    """Tells the scheduler who has to wait."""
    setattr(output, PARKED, parked)


class Gate:
    """Who of a scheduler's requests waits."""

    def __init__(self) -> None:
        self.is_open = True
        """False once the process that samples did not answer: then nobody is parked."""
        self.parked: frozenset[str] = frozenset()
        self._new: dict[str, Any] = {}

    def arrive(self, request: Any) -> None:
        """A request is there. With a payload it waits until it has been announced."""
        if self.is_open and has_payload(request):
            self._new[request.request_id] = request

    def announce(self, output: Any, living: Any) -> None:
        """Writes on a scheduler's output who came since the last one."""
        if self.is_open:
            news = [Announcement.of(one) for req_id, one in self._new.items() if req_id in living]
            # Until the answer is there they wait.
            self.parked |= self._new.keys()
            self._new.clear()
            setattr(output, ANNOUNCED, news)

    def hear(self, output: Any) -> None:
        """Takes in the runner's answer."""
        parked = getattr(output, PARKED, None)
        if parked is not None:
            self.parked = parked
        elif self.is_open:
            self.is_open = False
            self.parked = frozenset()
            self._new.clear()
            log.warning("tensorpow: the process that samples does not mine; no request waits for a nonce")

    def waits(self, request: Any) -> bool:
        """True for a request that is left out of the next step."""
        return request.request_id in self.parked or request.request_id in self._new


class Aside:
    """Takes the requests that wait out of a scheduler's queues, and puts them back."""

    def __init__(self, scheduler: Any, gate: Gate) -> None:
        self._scheduler = scheduler
        running = scheduler.running
        self._running = [(at, one) for at, one in enumerate(running) if gate.waits(one)]
        self._queued = [one for one in scheduler.waiting if gate.waits(one)]
        for at, _ in reversed(self._running):
            del running[at]
        # A row that waits is a row taken.
        self._take_rows(len(self._running))
        for one in self._queued:
            scheduler.waiting.remove_request(one)

    def put_back(self) -> None:
        """After the step is decided."""
        for at, one in self._running:
            self._scheduler.running.insert(at, one)
        self._take_rows(-len(self._running))
        for one in reversed(self._queued):
            self._scheduler.waiting.prepend_request(one)

    def _take_rows(self, count: int) -> None:
        for limit in ("max_num_running_reqs", "max_num_active_reqs"):
            if hasattr(self._scheduler, limit):
                setattr(self._scheduler, limit, getattr(self._scheduler, limit) - count)

    @property
    def has_running(self) -> bool:
        """Running requests are left out."""
        return bool(self._running)


def install(module: ModuleType) -> None:
    """Wraps the scheduler of the module. Raises `Refused` when it is another."""
    scheduler = getattr(module, "Scheduler", None)
    check(scheduler)
    assert scheduler is not None
    init, add_request = scheduler.__init__, scheduler.add_request
    schedule, update_from_output = scheduler.schedule, scheduler.update_from_output

    @functools.wraps(init)
    def initialising(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        setattr(self, GATE, Gate())

    @functools.wraps(add_request)
    def adding(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        vars(self)[GATE].arrive(request)
        return add_request(self, request, *args, **kwargs)

    @functools.wraps(schedule)
    def scheduling(self: Any, *args: Any, **kwargs: Any) -> Any:
        gate: Gate = vars(self)[GATE]
        aside = Aside(self, gate)
        try:
            output = schedule(self, *args, **kwargs)
        finally:
            aside.put_back()
        shared = getattr(output, "num_common_prefix_blocks", None)
        if shared and aside.has_running:
            # Counted over the requests that were there to be counted.
            output.num_common_prefix_blocks = [0] * len(shared)
        gate.announce(output, self.requests)
        return output

    @functools.wraps(update_from_output)
    def updating(self: Any, scheduler_output: Any, model_runner_output: Any) -> Any:
        vars(self)[GATE].hear(model_runner_output)
        return update_from_output(self, scheduler_output, model_runner_output)

    scheduler.__init__, scheduler.add_request = initialising, adding
    scheduler.schedule, scheduler.update_from_output = scheduling, updating


def check(scheduler: Any) -> None:
    """Raises `Refused` when a method has not the parameters that are relied on."""
    needed: Iterable[tuple[str, tuple[str, ...]]] = (
        ("add_request", ("request",)),
        ("schedule", ()),
        ("update_from_output", ("scheduler_output", "model_runner_output")),
    )
    for name, parameters in needed:
        method = getattr(scheduler, name, None)
        found = list(inspect.signature(method).parameters)[1:] if callable(method) else None
        if found is None or tuple(found[: len(parameters)]) != parameters:
            raise Refused("seam", f"Scheduler.{name} of this vLLM does not begin with {parameters}")
