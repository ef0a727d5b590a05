"""A vLLM in small: a scheduler with chunked prefills, preemption and aborts, a runner, a sampler
and a model whose logits are a function of everything it was fed. The scheduler and the runner
exchange what they say as bytes, as two processes do.

The classes have vLLM's names and shapes, so the plugin's own hooks tie themselves to them.
"""

import pickle
import tempfile
import time
import unittest
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar
from unittest import mock

import fake_torch
import numpy as np
import tensorpow
from payload import metric, payload
from tensorpow_vllm import parking, settings, v1, worker
from tensorpow_vllm.miner import Miner

torch = fake_torch.install()
VOCAB = 256
CPU = SimpleNamespace(type="cpu")


@dataclass
class Params:
    """The fields of SamplingParams that count, and one that a later release might bring."""

    n: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 50
    min_p: float = 0.0
    seed: int | None = None
    max_tokens: int = 300
    min_tokens: int = 0
    logprobs: int | None = None
    prompt_logprobs: int | None = None
    structured_outputs: Any = None
    guided_decoding: Any = None
    logit_bias: dict[int, float] | None = None
    allowed_token_ids: list[int] | None = None
    bad_words: list[str] | None = None
    logits_processors: Any = None
    thinking_token_budget: int | None = None
    novelty: int | None = None
    extra_args: dict[str, Any] | None = None


@dataclass(eq=False)
class Request:
    """A request as the scheduler holds it."""

    request_id: str
    prompt_token_ids: list[int]
    sampling_params: Any
    lora_request: Any = None
    mm_features: list[Any] = field(default_factory=list)
    prompt_embeds: Any = None
    pooling_params: Any = None
    output: list[int] = field(default_factory=list)
    computed: int = 0
    was_scheduled: bool = False

    @property
    def tokens(self) -> list[int]:
        return self.prompt_token_ids + self.output


@dataclass
class NewRequestData:
    req_id: str
    prompt_token_ids: list[int]
    sampling_params: Any
    num_computed_tokens: int
    lora_request: Any
    mm_features: list[Any]
    prompt_embeds: Any
    pooling_params: Any


@dataclass
class CachedRequestData:
    req_ids: list[str] = field(default_factory=list)
    num_computed_tokens: list[int] = field(default_factory=list)
    num_output_tokens: list[int] = field(default_factory=list)


@dataclass
class OldCachedRequestData:
    """Of 0.10.0, which does not say how many tokens a request has."""

    req_ids: list[str] = field(default_factory=list)
    num_computed_tokens: list[int] = field(default_factory=list)


@dataclass
class SchedulerOutput:
    scheduled_new_reqs: list[NewRequestData]
    scheduled_cached_reqs: Any
    num_scheduled_tokens: dict[str, int]
    total_num_scheduled_tokens: int
    finished_req_ids: set[str]
    num_common_prefix_blocks: list[int]


@dataclass
class ModelRunnerOutput:
    req_ids: list[str]
    sampled_token_ids: list[list[int]]


EMPTY = ModelRunnerOutput([], [])


class Queue(deque[Request]):
    """The part of vLLM's queues that is used."""

    def remove_request(self, request: Request) -> None:
        self.remove(request)

    def prepend_request(self, request: Request) -> None:
        self.appendleft(request)


class BaseScheduler:
    """First come, first served; the last one in is the first to be preempted."""

    def __init__(self, budget: int, capacity: int, seats: int, is_old: bool) -> None:
        self.running: list[Request] = []
        self.waiting = Queue()
        self.requests: dict[str, Request] = {}
        self.finished: set[str] = set()
        self.max_num_running_reqs = seats
        self.budget, self.capacity, self.is_old = budget, capacity, is_old
        self.preemptions = 0

    def add_request(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self.waiting.append(request)

    def finish(self, req_id: str) -> None:
        request = self.requests.pop(req_id)
        if request in self.running:
            self.running.remove(request)
        else:
            self.waiting.remove(request)
        self.finished.add(req_id)

    def preempt(self, request: Request) -> None:
        self.preemptions += 1
        self.running.remove(request)
        request.computed = 0
        self.waiting.appendleft(request)

    def _used(self) -> int:
        return sum(one.computed for one in self.requests.values())

    def schedule(self) -> SchedulerOutput:
        cached = OldCachedRequestData() if self.is_old else CachedRequestData()
        budget, news, scheduled = self.budget, [], {}
        for request in list(self.running):
            wanted = min(len(request.tokens) - request.computed, budget)
            while request in self.running and self._used() + wanted > self.capacity:
                victim = next(one for one in reversed(self.running) if one.request_id not in scheduled)
                self.preempt(victim)
            if request in self.running and wanted:
                self._cache(cached, request)
                scheduled[request.request_id] = wanted
                request.computed += wanted
                budget -= wanted
        while self.waiting and budget and len(self.running) < self.max_num_running_reqs:
            request = self.waiting[0]
            wanted = min(len(request.tokens), budget)
            if self._used() + wanted > self.capacity:
                break
            self.waiting.popleft()
            self.running.append(request)
            if request.was_scheduled:
                self._cache(cached, request)
            else:
                news.append(
                    NewRequestData(
                        request.request_id,
                        request.prompt_token_ids,
                        request.sampling_params,
                        0,
                        request.lora_request,
                        request.mm_features,
                        request.prompt_embeds,
                        request.pooling_params,
                    )
                )
            request.was_scheduled = True
            scheduled[request.request_id] = wanted
            request.computed += wanted
            budget -= wanted
        finished, self.finished = self.finished, set()
        assert len(self.running) <= self.max_num_running_reqs
        return SchedulerOutput(news, cached, scheduled, sum(scheduled.values()), finished, [3])

    def _cache(self, cached: Any, request: Request) -> None:
        cached.req_ids.append(request.request_id)
        cached.num_computed_tokens.append(request.computed)
        if not self.is_old:
            cached.num_output_tokens.append(len(request.output))

    def update_from_output(self, scheduler_output: Any, model_runner_output: Any) -> None:
        for req_id, tokens in zip(
            model_runner_output.req_ids, model_runner_output.sampled_token_ids, strict=True
        ):
            request = self.requests.get(req_id)
            if request is None:
                continue
            request.output += tokens
            if len(request.output) >= request.sampling_params.max_tokens:
                self.finish(req_id)


def model(tokens: list[int], width: int = VOCAB) -> Any:
    """The logits after some tokens: always the same ones, on the bf16 grid."""
    random = np.random.default_rng([len(tokens), *tokens[-6:]])
    return (random.integers(-40, 40, width) / 4).astype(np.float32)


class BaseSampler:
    """The stock one takes the most likely token, and works in place on the logits it is given."""

    calls = 0

    def __call__(self, logits: Any, sampling_metadata: Any) -> Any:
        return self.forward(logits, sampling_metadata)

    def forward(self, logits: Any, sampling_metadata: Any) -> Any:
        logits = logits.to(torch.float32)
        logits += 0.25 * sampling_metadata.shift
        return self.sample(logits, sampling_metadata)[0]

    def sample(self, logits: Any, sampling_metadata: Any) -> tuple[Any, Any]:
        self.calls += 1
        logits.div_(2.0)
        return torch.argmax(logits, -1), None


class OldSampler(BaseSampler):
    """Of 0.10.0, whose `sample` returns the tokens alone."""

    def forward(self, logits: Any, sampling_metadata: Any) -> Any:
        return self.sample(logits.to(torch.float32), sampling_metadata)

    def sample(self, logits: Any, sampling_metadata: Any) -> Any:
        self.calls += 1
        logits.div_(2.0)
        return torch.argmax(logits, -1)


class BaseRunner:
    """Keeps what it was fed, and computes a row for every request in its batch."""

    def __init__(self, vllm_config: Any, device: Any) -> None:
        self.vllm_config, self.device = vllm_config, device
        self.model_config = vllm_config.model_config
        self.sampler: Any = self.make_sampler()
        self.input_batch = SimpleNamespace(req_ids=[])
        self.known: dict[str, list[int]] = {}
        self.dtype = torch.float32
        self.shuffles = 0
        self.state: Any = None

    def make_sampler(self) -> Any:
        raise NotImplementedError

    def execute_model(self, scheduler_output: Any) -> Any:
        for req_id in scheduler_output.finished_req_ids:
            self.known.pop(req_id, None)
        reached = {}
        for new in scheduler_output.scheduled_new_reqs:
            self.arrive(new)
            reached[new.req_id] = new.num_computed_tokens
        cached = scheduler_output.scheduled_cached_reqs
        reached |= dict(zip(cached.req_ids, cached.num_computed_tokens, strict=True))
        if not reached:
            return EMPTY
        # The order of a batch is the runner's own business, and changes.
        self.shuffles += 1
        order = np.random.default_rng(self.shuffles).permutation(sorted(reached)).tolist()
        ends = {one: reached[one] + scheduler_output.num_scheduled_tokens[one] for one in order}
        rows = [self.row(one, self.known[one][: ends[one]]) for one in order]
        self.input_batch.req_ids = order
        logits = torch.from_numpy(np.array(rows)).to(self.dtype)
        self.state = order, ends, logits
        return None if hasattr(self, "sample_tokens") else self._sampled()

    def arrive(self, new: NewRequestData) -> None:
        self.known[new.req_id] = list(new.prompt_token_ids)

    def row(self, req_id: str, tokens: list[int]) -> Any:
        return model(tokens)

    def _sampled(self) -> Any:
        order, ends, logits = self.state
        tokens = self.sampler(logits, SimpleNamespace(max_num_logprobs=None, shift=0)).tolist()
        kept = []
        for one, token in zip(order, tokens, strict=True):
            is_kept = ends[one] == len(self.known[one])
            kept.append([token] if is_kept else [])
            self.known[one] += kept[-1]
        return ModelRunnerOutput(order, kept)


def _two_calls(self: Any, grammar_output: Any) -> Any:
    return self._sampled()


class Vllm:
    """One server."""

    def __init__(
        self,
        *,
        budget: int = 64,
        capacity: int = 10_000,
        seats: int = 16,
        is_old: bool = False,
        is_patched: bool = True,
        has_gate: bool = False,
        config: Any = None,
    ) -> None:
        sampler_class: Any = type("Sampler", (OldSampler if is_old else BaseSampler,), {})
        sampler_class.forward = _copy(sampler_class.forward)
        members: dict[str, Any] = {"make_sampler": lambda self: sampler_class()}
        if not is_old:
            members["sample_tokens"] = _two_calls
        runner_class = type("GPUModelRunner", (BaseRunner,), members)
        scheduler_class = type("Scheduler", (BaseScheduler,), {})
        if is_patched:
            v1.install(a_module(GPUModelRunner=runner_class, Sampler=sampler_class))
            if has_gate:
                parking.install(a_module(Scheduler=scheduler_class))
        self.scheduler: Any = scheduler_class(budget, capacity, seats, is_old)
        self.runner: Any = runner_class(config or a_config(), CPU)

    @property
    def miner(self) -> Miner:
        link = vars(self.runner)[v1.LINK]
        miner: Miner = link._miner
        return miner

    def add(self, req_id: str, prompt: list[int], params: Params | None = None, **more: Any) -> Request:
        request = Request(req_id, prompt, params or Params(extra_args={"pow": payload()}), **more)
        self.scheduler.add_request(request)
        return request

    def step(self) -> Any:
        """One step; returns what the scheduler had decided."""
        decided = self.scheduler.schedule()
        output = self.runner.execute_model(pickle.loads(pickle.dumps(decided)))
        if output is None:
            output = self.runner.sample_tokens(None)
        self.scheduler.update_from_output(decided, pickle.loads(pickle.dumps(output)))
        return decided

    def run(self, limit_s: float = 60.0) -> None:
        """Until all requests are done."""
        until = time.monotonic() + limit_s
        while self.scheduler.requests:
            self.step()
            assert time.monotonic() < until, "the requests do not end"
        self.step()

    def metric(self, name: str) -> float:
        assert self.miner.engine is not None
        return metric(self.miner.engine.metrics(), name)

    def close(self) -> None:
        if v1.LINK in vars(self.runner) and vars(self.runner)[v1.LINK] is not None:
            self.miner.close()


def _copy(function: Any) -> Any:
    # Of its own, so that wrapping it for one server wraps it for no other.
    return lambda self, logits, sampling_metadata: function(self, logits, sampling_metadata)


def a_module(**names: Any) -> ModuleType:
    module = ModuleType("vllm_in_small")
    vars(module).update(names)
    return module


def a_config(**changes: Any) -> Any:
    """A VllmConfig of a server that is mined with."""
    return SimpleNamespace(
        **{
            "speculative_config": None,
            "parallel_config": SimpleNamespace(pipeline_parallel_size=1),
            "scheduler_config": SimpleNamespace(async_scheduling=False, max_num_seqs=16),
            "model_config": SimpleNamespace(
                model="test/model", revision=None, dtype="torch.bfloat16", get_vocab_size=lambda: VOCAB
            ),
            **changes,
        }
    )


def expected(prompt: list[int], count: int, pow_: Any = None, **settings_: str) -> list[int]:
    """The tokens a request gets, whatever happens around it."""
    with tensorpow.Engine(settings_) as engine:
        # Which window is a solution changes no token.
        sequence = engine.begin(pow_ or payload(target="00" * 31 + "01"), prompt, VOCAB)
        tokens: list[int] = []
        for _ in range(count):
            tokens.append(sequence.sample(model(prompt + tokens)))
        return tokens


def stock(prompt: list[int], count: int) -> list[int]:
    """The tokens of an unmined request."""
    tokens: list[int] = []
    for _ in range(count):
        tokens.append(int(model(prompt + tokens).argmax()))
    return tokens


class OneRank:
    """The ranks of a server on one device."""

    count = 1
    is_driver = True


class World(unittest.TestCase):
    """A test with servers in it, whose proofs are files."""

    env: ClassVar[dict[str, str]] = {}

    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.proofs = Path(folder.name)
        env = {
            settings.SWITCH: "1",
            "POW_EGRESS_MODE": "broker",
            "ZMQ_PUSH_PORT": "9",
            "PROOF_SAVE_DIR": folder.name,
            **self.env,
        }
        for patch in (
            mock.patch.dict("os.environ", env),
            mock.patch.object(worker, "_Ranks", OneRank),
            mock.patch("tensorpow_vllm.refusal.vllm_version", lambda: "0.32.0"),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def server(self, **how: Any) -> Vllm:
        server = Vllm(**how)
        self.addCleanup(server.close)
        return server

    def emitted(self, server: Vllm) -> list[tensorpow.Proof]:
        """The proofs of a server that ended; each has passed its self-check again."""
        server.close()
        files = sorted(self.proofs.rglob("*.bin"))
        proofs = [tensorpow.Proof.from_bytes(file.read_bytes()) for file in files]
        for proof in proofs:
            self.assertIn("256 of 256", proof.self_check(None if proof.is_solution else 2**256 - 1))
        return proofs


def shares(**changes: Any) -> dict[str, Any]:
    """A payload of which every window is at least a share."""
    return payload(share_target="ff" * 32, **changes)


def mined_window(server: Vllm) -> tuple[list[int], list[int]]:
    """Ten tokens of a request with a payload, and what the stock sampler would give it."""
    request = server.add("chatcmpl-1", [1, 2], Params(max_tokens=10, extra_args={"pow": payload()}))
    server.run()
    return request.output, stock([1, 2], 10)
