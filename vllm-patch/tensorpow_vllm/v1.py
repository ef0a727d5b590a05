"""The seam in vLLM's model runner V1, which has kept its shape since 0.10.0.

`GPUModelRunner.execute_model` brings the scheduler's decision, `Sampler.forward` the raw logits,
and `Sampler.sample` returns the tokens, of which the mined rows are overwritten in place. From
0.12 on a step is two calls, and `sample_tokens` is the second. The runners for CPUs and XPUs are
subclasses.
"""

import copy
import functools
import inspect
import logging
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType
from typing import Any

from tensorpow_vllm import parking, worker
from tensorpow_vllm.miner import Chosen, Miner
from tensorpow_vllm.refusal import Refused

log = logging.getLogger("vllm.tensorpow")

RUNNER_MODULE = "vllm.v1.worker.gpu_model_runner"
LINK = "_tensorpow_link"
CHOSEN = "_tensorpow_chosen"


class Link:
    """What ties one runner to its miner."""

    def __init__(self, runner: Any, miner: Miner) -> None:
        self._runner = runner
        self._miner = miner
        self._announces = False
        self._idle = False

    def begin(self, output: Any) -> None:
        """A step begins."""
        announced = parking.announced(output)
        self._announces = announced is not None
        self._idle = output.total_num_scheduled_tokens == 0
        self._miner.begin_step(output, announced or ())

    def choose(self, logits: Any, req_ids: Sequence[str] | None = None) -> tuple[Chosen | None, Any]:
        """The sampler is called: chooses the rows that are mined, of the runner's batch or of the
        given one.

        Returns the logits too, in the type that the sampler would make of them first.
        """
        if not self._miner.is_due:
            return None, logits
        logits = self._miner.backend.widened(logits)
        if req_ids is None:
            req_ids = self._runner.input_batch.req_ids
        return self._miner.choose(logits, req_ids), logits

    def end(self, output: Any) -> Any:
        """A step ends; the answer to the scheduler leaves with its output."""
        self._miner.end_step()
        # Where the tokens are still on their way, what they will be written to.
        answer = getattr(output, "model_runner_output", output)
        if not self._announces or not hasattr(answer, "req_ids"):
            return output
        if answer is output and not output.req_ids:
            answer = output = copy.copy(output)  # an object that vLLM uses for every empty step
        parking.answer(answer, self._miner.parked(idle=self._idle))
        return output


def install(module: ModuleType) -> None:
    """Wraps the runner and the sampler of the module. Raises `Refused` when they are others."""
    runner, sampler = class_of(module, "GPUModelRunner"), class_of(module, "Sampler")
    check(runner, sampler)
    wrap_runner(runner)
    wrap_sampler(sampler)


def check(runner: Any, sampler: Any) -> None:
    """Raises `Refused` when a method has not the parameters that are relied on."""
    check_methods(
        (runner, "__init__", ("vllm_config", "device")),
        (runner, "execute_model", ("scheduler_output",)),
        (sampler, "forward", ("logits", "sampling_metadata")),
        (sampler, "sample", ("logits", "sampling_metadata")),
    )


def check_methods(*needed: tuple[Any, str, tuple[str, ...]]) -> None:
    """Raises `Refused` for a method that is missing or has not these first parameters."""
    for owner, name, parameters in needed:
        method = getattr(owner, name, None)
        found = list(inspect.signature(method).parameters)[1:] if callable(method) else None
        if found is None or tuple(found[: len(parameters)]) != parameters:
            raise Refused(
                "seam",
                f"{owner.__name__}.{name} of this vLLM does not begin with ({', '.join(parameters)})",
            )


def class_of(module: ModuleType, name: str) -> Any:
    """A class of a module. Raises `Refused` when it has none of that name."""
    found = getattr(module, name, None)
    if found is None:
        raise Refused("seam", f"{module.__name__} of this vLLM has no {name}")
    return found


def wrap_runner(runner: Any) -> None:
    """Ties every runner of a class to a miner."""
    init, execute_model = runner.__init__, runner.execute_model

    @functools.wraps(init)
    def initialising(self: Any, *args: Any, **kwargs: Any) -> None:
        # After the last fork and with the ranks known; subclasses call it, which is not so of
        # `load_model`.
        init(self, *args, **kwargs)
        miner = worker.start(self)
        link = Link(self, miner) if miner is not None else None
        vars(self)[LINK] = vars(self.sampler)[LINK] = link

    @functools.wraps(execute_model)
    def executing(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        link = vars(self).get(LINK)
        if link is None:
            return execute_model(self, scheduler_output, *args, **kwargs)
        link.begin(scheduler_output)
        output = execute_model(self, scheduler_output, *args, **kwargs)
        # None: the forward pass is done, the tokens are the next call's.
        return output if output is None else link.end(output)

    runner.__init__, runner.execute_model = initialising, executing
    wrap_second_call(runner)


def wrap_second_call(runner: Any) -> None:
    """Lets the second call of a step, where there is one, end it."""
    sample_tokens = getattr(runner, "sample_tokens", None)
    if sample_tokens is None:
        return

    @functools.wraps(sample_tokens)
    def sampling(self: Any, *args: Any, **kwargs: Any) -> Any:
        link = vars(self).get(LINK)
        output = sample_tokens(self, *args, **kwargs)
        return output if link is None else link.end(output)

    runner.sample_tokens = sampling


def wrap_sampler(sampler: Any) -> None:
    """Lets the samplers of a class return what the miner of their runner chose."""
    forward, sample = sampler.forward, sampler.sample
    # Of 0.10.0 the tokens alone, later a pair that begins with them.
    is_pair = "tuple" in str(inspect.signature(sample).return_annotation).lower()

    @functools.wraps(forward)
    def forwarding(self: Any, logits: Any, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
        link = vars(self).get(LINK)
        if link is None:
            return forward(self, logits, sampling_metadata, *args, **kwargs)
        chosen, logits = link.choose(logits)
        if chosen is None:
            return forward(self, logits, sampling_metadata, *args, **kwargs)
        # Chosen before vLLM works in place on these very logits.
        vars(self)[CHOSEN] = chosen
        try:
            output = forward(self, logits, sampling_metadata, *args, **kwargs)
            if CHOSEN in vars(self):
                # A way through the sampler that does not call `sample`.
                overwrite(output.sampled_token_ids[:, 0], chosen)
            return output
        finally:
            vars(self).pop(CHOSEN, None)

    @functools.wraps(sample)
    def choosing(self: Any, logits: Any, sampling_metadata: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = vars(self).pop(CHOSEN, None)
        if chosen is None:
            return sample(self, logits, sampling_metadata, *args, **kwargs)
        if chosen.is_all and not _wants_logprobs(sampling_metadata):
            # Nobody's token is vLLM's, so vLLM need not choose any.
            tokens = _on(logits.device, chosen.tokens)
            return (tokens, None) if is_pair else tokens
        result = sample(self, logits, sampling_metadata, *args, **kwargs)
        overwrite(result[0] if is_pair else result, chosen)
        return result

    sampler.forward, sampler.sample = forwarding, choosing


def _on(device: Any, values: list[int]) -> Any:
    torch: Any = import_module("torch")
    return torch.tensor(values, dtype=torch.int64).to(device, non_blocking=True)


def overwrite(sampled: Any, chosen: Chosen) -> None:
    """Puts the chosen tokens into a tensor with one for each row."""
    tokens = _on(sampled.device, chosen.tokens).to(sampled.dtype)
    sampled[_on(sampled.device, chosen.rows)] = tokens


def _wants_logprobs(sampling_metadata: Any) -> bool:
    """True when the step's log-probabilities may be made by the method that chooses tokens."""
    return sampling_metadata.max_num_logprobs is not None or bool(
        getattr(sampling_metadata, "logprob_token_ids", None)
    )
