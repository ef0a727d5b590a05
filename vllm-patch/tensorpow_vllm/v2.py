"""The seam in vLLM's model runner V2, which needs a GPU. It has not run on one, so it is refused by
name, and not by an oversight.

The runner is told what was decided as V1's is. Its sampler exists only once a model is loaded, is
called with the batch whose rows the logits are, and draws in `sample`, whose tokens are
overwritten in place. Resumed requests come as new ones, which the tracker knows.
"""

import functools
from types import ModuleType
from typing import Any

from tensorpow_vllm import v1, worker
from tensorpow_vllm.refusal import Refused

RUNNER_MODULE = "vllm.v1.worker.gpu.model_runner"
HAS_RUN_ON_A_GPU = False


def install(module: ModuleType) -> None:
    """Ties the runner of the module to a miner, or says that it is not mined with."""
    runner = v1.class_of(module, "GPUModelRunner")
    if not HAS_RUN_ON_A_GPU:
        _refuse(runner)
        return
    sampler = v1.class_of(module, "Sampler")
    v1.check_methods(
        (runner, "__init__", ("vllm_config", "device")),
        (runner, "execute_model", ("scheduler_output",)),
        (runner, "sample_tokens", ()),
        (sampler, "__call__", ("logits", "input_batch")),
        (sampler, "sample", ("logits",)),
    )
    wrap_runner(runner)
    v1.wrap_second_call(runner)
    wrap_sampler(sampler)


def _refuse(runner: Any) -> None:
    """Says so once there is a runner; vLLM may import the module and use another."""
    init = runner.__init__

    @functools.wraps(init)
    def initialising(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        worker.refuse_runner(
            Refused(
                "model_runner_v2",
                "model runner V2 is not supported yet; start with VLLM_USE_V2_MODEL_RUNNER=0 to mine",
            )
        )

    runner.__init__ = initialising


def wrap_runner(runner: Any) -> None:
    """Ties every runner of a class to a miner."""
    init, execute_model = runner.__init__, runner.execute_model

    @functools.wraps(init)
    def initialising(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        miner = worker.start(self)
        vars(self)[v1.LINK] = v1.Link(self, miner) if miner is not None else None

    @functools.wraps(execute_model)
    def executing(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        link = vars(self).get(v1.LINK)
        # Warm-up passes bring batches of no requests.
        if link is None or kwargs.get("dummy_run"):
            return execute_model(self, scheduler_output, *args, **kwargs)
        if self.sampler is not None:
            vars(self.sampler)[v1.LINK] = link
        link.begin(scheduler_output)
        output = execute_model(self, scheduler_output, *args, **kwargs)
        return output if output is None else link.end(output)

    runner.__init__, runner.execute_model = initialising, executing


def wrap_sampler(sampler: Any) -> None:
    """Lets the samplers of a class return what the miner of their runner chose."""
    call, sample = sampler.__call__, sampler.sample

    @functools.wraps(call)
    def calling(self: Any, logits: Any, input_batch: Any, *args: Any, **kwargs: Any) -> Any:
        link = vars(self).get(v1.LINK)
        chosen = None if link is None else link.choose(logits, input_batch.req_ids)[0]
        if chosen is None:
            return call(self, logits, input_batch, *args, **kwargs)
        vars(self)[v1.CHOSEN] = chosen
        try:
            output = call(self, logits, input_batch, *args, **kwargs)
            if v1.CHOSEN in vars(self):
                v1.overwrite(output.sampled_token_ids[:, 0], chosen)
            return output
        finally:
            vars(self).pop(v1.CHOSEN, None)

    @functools.wraps(sample)
    def choosing(self: Any, logits: Any, *args: Any, **kwargs: Any) -> Any:
        chosen = vars(self).pop(v1.CHOSEN, None)
        result = sample(self, logits, *args, **kwargs)
        if chosen is not None:
            v1.overwrite(result[0], chosen)
        return result

    sampler.__call__, sampler.sample = calling, choosing
