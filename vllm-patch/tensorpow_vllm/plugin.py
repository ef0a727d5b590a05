"""What vLLM loads, in every process it starts: the entry point of `vllm.general_plugins`.

Nothing but hooks is set here, and no module of vLLM is imported for it. Without
`VLLM_ENABLE_POW=1` nothing is set and nothing more is imported. With it, an installation that is
broken ends the start: vLLM would only log what a module raises that it loads.
"""

import logging
import os
from collections.abc import Callable
from types import ModuleType

from tensorpow_vllm.settings import SWITCH, SettingError, Settings, enabled

log = logging.getLogger("vllm.tensorpow")

RUNNER_CHOICE = "VLLM_USE_V2_MODEL_RUNNER"
_done = False


def register() -> None:
    """Called by vLLM, perhaps several times in a process."""
    global _done
    if _done or not enabled():
        if not _done and os.environ.get(SWITCH):
            log.warning("tensorpow: %s is set but not to 1, so nothing is mined", SWITCH)
        return
    _done = True
    _register()


def _register() -> None:
    from tensorpow_vllm import api_process, exposition, parking, refusal, v1, v2, worker

    exposition.prepare()
    try:
        settings = Settings.read()
        refusal.check_version(refusal.vllm_version(), any_version=settings.any_version)
    except SettingError as why:
        worker.refuse(refusal.Refused("settings", str(why)), strict=True)
        return
    except refusal.Refused as why:
        worker.refuse(why, strict=settings.strict)
        _hook(settings, api_process.API_MODULE, api_process.install_middleware)
        return
    os.environ.setdefault(RUNNER_CHOICE, "0")
    hooks: list[tuple[str, Callable[[ModuleType], None]]] = [
        (v1.RUNNER_MODULE, v1.install),
        (v2.RUNNER_MODULE, v2.install),
        (api_process.ARGUMENTS_MODULE, api_process.install_arguments),
        (api_process.API_MODULE, api_process.install_middleware),
    ]
    if settings.admission:
        hooks.append((parking.SCHEDULER_MODULE, parking.install))
    for name, hook in hooks:
        _hook(settings, name, hook)


def _hook(settings: Settings, name: str, install: Callable[[ModuleType], None]) -> None:
    """Sets a hook; a seam that is not as it should be is refused when its module comes."""
    from tensorpow_vllm import hooks, refusal, worker

    def guarded(module: ModuleType) -> None:
        try:
            install(module)
        except refusal.Refused as why:
            worker.refuse(why, strict=settings.strict)

    hooks.when_imported(name, guarded)
