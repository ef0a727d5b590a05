"""The process that samples: decides whether it mines, starts the engine side after the last fork,
ends it in order.
"""

import importlib
import logging
from multiprocessing import util
from typing import Any

from tensorpow_vllm import exposition, identity, refusal
from tensorpow_vllm.backends import backend_for
from tensorpow_vllm.miner import Miner
from tensorpow_vllm.settings import SettingError, Settings

log = logging.getLogger("vllm.tensorpow")


def start(runner: Any) -> Miner | None:
    """The miner of a new runner; None when mining is refused, which is said
    aloud. Raises `Refused` in strict mode.
    """
    try:
        settings = Settings.read()
    except SettingError as why:
        refuse(refusal.Refused("settings", str(why)), strict=True)
        return None
    try:
        return _start(runner, settings)
    except refusal.Refused as why:
        refuse(why, strict=settings.strict)
        return None


def refuse(why: refusal.Refused, *, strict: bool) -> None:
    """Says that nothing is mined here, and counts it. Raises in strict mode."""
    exposition.status.refuse(why.label)
    log.error("tensorpow: NOT MINING: %s", why)
    exposition.serve(None)
    if strict:
        raise why


def refuse_runner(why: refusal.Refused) -> None:
    """Refuses a kind of runner, once there is one. Raises in strict mode."""
    try:
        strict = Settings.read().strict
    except SettingError:
        strict = True
    refuse(why, strict=strict)


def _start(runner: Any, settings: Settings) -> Miner | None:
    # Imported where it is needed: vLLM loads the plugin in processes that never sample.
    import tensorpow

    config, model = runner.vllm_config, runner.model_config
    refusal.check_config(config)
    ranks = _Ranks()
    version = refusal.vllm_version()
    engine, trouble = None, ""
    if ranks.is_driver:
        try:
            engine = tensorpow.Engine(
                engine=f"vLLM {version}",
                model_identifier=identity.model_identifier(model),
                compute_precision=identity.compute_precision(model),
                max_sequences=max(1024, int(config.scheduler_config.max_num_seqs)),
            )
        except tensorpow.SettingsError as why:
            trouble = str(why)
    # All ranks mine or none does: they wait for each other in every mined step.
    if ranks.count > 1 and ranks.share([int(engine is not None)]) != [1]:
        trouble = trouble or "the rank that drives cannot start, it says why"
    if trouble:
        raise refusal.Refused("settings", trouble)
    backend = backend_for(settings.backend, runner.device)
    miner = Miner(
        engine=engine,
        backend=backend,
        settings=settings,
        vocab=int(model.get_vocab_size()),
        random_suffix=_has_random_suffix(),
        share=ranks.share if ranks.count > 1 else None,
    )
    # In the main process and in those that multiprocessing starts, whose atexit never runs.
    util.Finalize(None, miner.close, exitpriority=100)
    exposition.status.start(vllm=version, adapter="v1", backend=backend.name)
    if engine is not None:
        exposition.serve(miner)
        log.info(
            "tensorpow: mining in vLLM %s: adapter v1, back end %s, vocabulary %d, ranks %d",
            version,
            backend.name,
            miner.vocab,
            ranks.count,
        )
    return miner


def _has_random_suffix() -> bool:
    """True where the engine appends eight random digits to request ids."""
    try:
        module: Any = importlib.import_module("vllm.v1.engine.input_processor")
    except ImportError:
        return False
    if not hasattr(getattr(module, "InputProcessor", None), "assign_request_id"):
        return False
    envs: Any = importlib.import_module("vllm.envs")
    return not getattr(envs, "VLLM_DISABLE_REQUEST_ID_RANDOMIZATION", False)


class _Ranks:
    """The ranks of tensor parallelism: the first drives."""

    def __init__(self) -> None:
        module: Any = importlib.import_module("vllm.distributed.parallel_state")
        self._group = module.get_tp_group()
        self.count = int(self._group.world_size)
        self.is_driver = int(self._group.rank_in_group) == 0

    def share(self, tokens: list[int]) -> list[int]:
        """The driver's tokens, on every rank."""
        torch: Any = importlib.import_module("torch")
        shared = torch.tensor(tokens, dtype=torch.int32, device=self._group.device)
        shared = self._group.broadcast(shared, src=0)
        found: list[int] = shared.tolist()
        return found
