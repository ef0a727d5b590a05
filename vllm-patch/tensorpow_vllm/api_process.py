"""The process that serves HTTP: asynchronous scheduling stays off unless the operator asked for
it, and the middleware is there without a flag.
"""

import functools
import logging
from types import ModuleType
from typing import Any

from tensorpow_vllm.middleware import PowMiddleware

log = logging.getLogger("vllm.tensorpow")

# Where vLLM builds its application has moved; what it is made of has not.
API_MODULE = "fastapi.applications"
ARGUMENTS_MODULE = "vllm.engine.arg_utils"


def install_arguments(module: ModuleType) -> None:
    """An engine that would choose asynchronous scheduling by itself does not."""
    arguments: Any = getattr(module, "EngineArgs", None)
    create = getattr(arguments, "create_engine_config", None)
    if create is None:
        return  # the worker looks at the configuration, whoever made it

    @functools.wraps(create)
    def creating(self: Any, *args: Any, **kwargs: Any) -> Any:
        if getattr(self, "async_scheduling", False) is None:
            self.async_scheduling = False
            log.info("tensorpow: asynchronous scheduling is off: a mined token is chosen on the host")
        return create(self, *args, **kwargs)

    arguments.create_engine_config = creating


def install_middleware(module: ModuleType) -> None:
    """Every application that is made here gets the middleware, innermost: what vLLM adds, its
    check of keys for one, comes before it.
    """
    application: Any = getattr(module, "FastAPI", None)
    if application is None:
        log.warning("tensorpow: start vLLM with --middleware tensorpow_vllm.middleware.PowMiddleware")
        return
    init = application.__init__

    @functools.wraps(init)
    def initialising(self: Any, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        self.add_middleware(PowMiddleware)

    application.__init__ = initialising
