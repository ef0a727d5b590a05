"""What the plugin relies on in vLLM, as a table: one line for each name, argument or field that must be there.

A question is asked of the source text of a release (`reading` answers it without importing anything); an
expectation says which answers will do. The answers of all releases are kept in `snapshot.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

Answer: TypeAlias = bool | str | list[str] | list[list[str]] | None
"""None: the place does not exist."""
Release: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Question:
    """What is asked of a release.

    `parameters`: names of a function's parameters. `fields`: names that a class body annotates.
    `attribute`: whether a method of the class assigns it to self. `sets`: whether a function assigns
    `callee` to self. `global`: where a module's name
    comes from. `calls`: the keywords of each call of `callee` in a function; `*` stands for
    positional arguments. `text`: whether a module contains the string `callee`.
    """

    kind: str
    module: str
    member: str = ""
    callee: str = ""

    def __str__(self) -> str:
        place = f"{self.module}:{self.member}" if self.member else self.module
        return f"{self.kind} {place} {self.callee}".strip()


@dataclass(frozen=True)
class Need:
    """A line of the contract."""

    adapter: str
    question: Question
    wanted: tuple[str, ...] = ()
    """Parameters that come first, fields that are there, keywords of every call, the origin of a name."""
    since: Release = (0, 10, 0)
    until: Release = (99,)
    """The first release in which it is not needed any more."""

    def is_met_by(self, answer: Answer) -> bool:
        """Whether the answer will do."""
        wanted = list(self.wanted)
        match self.question.kind:
            case "parameters":
                return isinstance(answer, list) and answer[: len(wanted)] == wanted
            case "fields":
                return isinstance(answer, list) and all(name in answer for name in wanted)
            case "calls":
                return isinstance(answer, list) and bool(answer) and all(call == wanted for call in answer)
            case "global":
                return answer is not None and (not wanted or answer in wanted)
        return answer is True


RUNNER = "vllm.v1.worker.gpu_model_runner"
CPU_RUNNER = "vllm.v1.worker.cpu_model_runner"
XPU_RUNNER = "vllm.v1.worker.xpu_model_runner"
SAMPLER = "vllm.v1.sample.sampler"
METADATA = "vllm.v1.sample.metadata"
OUTPUT = "vllm.v1.core.sched.output"
SCHEDULER = "vllm.v1.core.sched.scheduler"
QUEUE = "vllm.v1.core.sched.request_queue"
REQUEST = "vllm.v1.request"
PARAMS = "vllm.sampling_params"
V2_RUNNER = "vllm.v1.worker.gpu.model_runner"
V2_SAMPLER = "vllm.v1.worker.gpu.sample.sampler"
GROUPS = "vllm.distributed.parallel_state"
ARGUMENTS = "vllm.engine.arg_utils"


def parameters(module: str, member: str) -> Question:
    return Question("parameters", module, member)


def fields(module: str, member: str) -> Question:
    return Question("fields", module, member)


def attribute(module: str, member: str) -> Question:
    return Question("attribute", module, member)


def origin(module: str, member: str) -> Question:
    return Question("global", module, member)


LOADING = (
    Need("loading", Question("text", "vllm.plugins", callee="vllm.general_plugins")),
    Need("loading", origin("vllm.plugins", "load_general_plugins")),
    Need("loading", Question("text", "vllm.envs", callee="VLLM_USE_V2_MODEL_RUNNER"), since=(0, 12, 0)),
)

V1 = (
    Need("v1", parameters(RUNNER, "GPUModelRunner.__init__"), ("vllm_config", "device")),
    Need("v1", Question("sets", RUNNER, "GPUModelRunner.__init__", "sampler")),
    Need("v1", parameters(RUNNER, "GPUModelRunner.execute_model"), ("scheduler_output",)),
    Need("v1", parameters(RUNNER, "GPUModelRunner.sample_tokens"), since=(0, 11, 1)),
    Need("v1", origin(RUNNER, "Sampler"), (f"{SAMPLER}.Sampler",)),
    Need("v1", attribute(RUNNER, "GPUModelRunner.input_batch")),
    Need("v1", attribute(RUNNER, "GPUModelRunner.device")),
    Need("v1", attribute(RUNNER, "GPUModelRunner.vllm_config")),
    Need("v1", attribute(RUNNER, "GPUModelRunner.model_config")),
    Need("v1", origin(CPU_RUNNER, "GPUModelRunner"), (f"{RUNNER}.GPUModelRunner",)),
    Need("v1", origin(XPU_RUNNER, "GPUModelRunner"), (f"{RUNNER}.GPUModelRunner",)),
    Need(
        "v1",
        Question("calls", RUNNER, "GPUModelRunner.execute_model", "self.sampler"),
        ("logits", "sampling_metadata"),
        until=(0, 10, 2),
    ),
    Need(
        "v1",
        Question("calls", RUNNER, "GPUModelRunner._sample", "self.sampler"),
        ("logits", "sampling_metadata"),
        since=(0, 10, 2),
    ),
    Need("v1", parameters(SAMPLER, "Sampler.forward"), ("logits", "sampling_metadata")),
    Need("v1", parameters(SAMPLER, "Sampler.sample"), ("logits", "sampling_metadata")),
    Need("v1", Question("calls", SAMPLER, "Sampler.forward", "self.sample"), ("*", "*")),
    Need("v1", fields(METADATA, "SamplingMetadata"), ("max_num_logprobs",)),
)

STATE = (
    Need(
        "state",
        fields(OUTPUT, "SchedulerOutput"),
        (
            *("scheduled_new_reqs", "scheduled_cached_reqs", "num_scheduled_tokens"),
            *("total_num_scheduled_tokens", "finished_req_ids"),
        ),
    ),
    Need(
        "state",
        fields(OUTPUT, "NewRequestData"),
        (
            *("req_id", "prompt_token_ids", "sampling_params", "num_computed_tokens"),
            *("pooling_params", "lora_request"),
        ),
    ),
    Need("state", fields(OUTPUT, "CachedRequestData"), ("req_ids", "num_computed_tokens")),
    Need("state", fields(OUTPUT, "CachedRequestData"), ("num_output_tokens",), since=(0, 11, 1)),
    Need("state", fields("vllm.v1.outputs", "ModelRunnerOutput"), ("req_ids",)),
    Need(
        "state",
        fields(PARAMS, "SamplingParams"),
        (
            *("n", "presence_penalty", "frequency_penalty", "repetition_penalty", "temperature"),
            *("top_p", "top_k", "min_p", "seed", "min_tokens", "logit_bias", "allowed_token_ids"),
            *("bad_words", "extra_args"),
        ),
    ),
    Need("state", fields(PARAMS, "SamplingParams"), ("guided_decoding",), until=(0, 11, 0)),
    Need("state", fields(PARAMS, "SamplingParams"), ("structured_outputs",), since=(0, 11, 0)),
    Need(
        "state",
        parameters("vllm.v1.engine.input_processor", "InputProcessor.assign_request_id"),
        since=(0, 14, 0),
    ),
)

PARKING = (
    Need("parking", parameters(SCHEDULER, "Scheduler.add_request"), ("request",)),
    Need("parking", parameters(SCHEDULER, "Scheduler.schedule")),
    Need(
        "parking",
        parameters(SCHEDULER, "Scheduler.update_from_output"),
        ("scheduler_output", "model_runner_output"),
    ),
    *(
        Need("parking", attribute(SCHEDULER, f"Scheduler.{name}"))
        for name in ("running", "waiting", "requests", "max_num_running_reqs")
    ),
    *(
        Need("parking", attribute(REQUEST, f"Request.{name}"))
        for name in ("request_id", "sampling_params", "prompt_token_ids", "lora_request")
    ),
    Need("parking", parameters(QUEUE, "RequestQueue.remove_request"), ("request",)),
    Need("parking", parameters(QUEUE, "RequestQueue.prepend_request"), ("request",)),
)

RANKS = (
    Need("ranks", parameters(GROUPS, "get_tp_group")),
    Need("ranks", parameters(GROUPS, "GroupCoordinator.broadcast"), ("input_", "src")),
    Need("ranks", attribute(GROUPS, "GroupCoordinator.rank_in_group")),
    Need("ranks", attribute(GROUPS, "GroupCoordinator.world_size")),
)

SERVER = (
    Need(
        "server", fields("vllm.entrypoints.openai.cli_args", "FrontendArgs"), ("middleware",), until=(0, 29)
    ),
    Need(
        "server",
        fields("vllm.entrypoints.launchers.cli_args", "FrontendArgs"),
        ("middleware",),
        since=(0, 29),
        until=(0, 33),
    ),
    Need(
        "server", fields("vllm.entrypoints.common.cli_args", "FrontendArgs"), ("middleware",), since=(0, 33)
    ),
    # its middleware is there without a flag, by way of the application's class
    Need(
        "server", origin("vllm.entrypoints.openai.api_server", "FastAPI"), ("fastapi.FastAPI",), until=(0, 29)
    ),
    Need("server", origin("vllm.entrypoints.launchers.app", "FastAPI"), ("fastapi.FastAPI",), since=(0, 29)),
    Need("server", parameters(ARGUMENTS, "EngineArgs.create_engine_config")),
)

V2 = (
    Need("v2", parameters(V2_RUNNER, "GPUModelRunner.load_model"), since=(0, 12, 0)),
    Need(
        "v2", parameters(V2_RUNNER, "GPUModelRunner.execute_model"), ("scheduler_output",), since=(0, 12, 0)
    ),
    Need("v2", parameters(V2_SAMPLER, "Sampler.__call__"), ("logits", "input_batch"), since=(0, 19, 0)),
)

CONTRACT = (*LOADING, *V1, *STATE, *PARKING, *RANKS, *SERVER, *V2)
