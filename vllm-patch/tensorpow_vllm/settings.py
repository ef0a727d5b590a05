"""What the operator can say about the plugin itself. What proofs are and where they go is told to
tensorpow, in the process that samples; its variables are not read here, but for the one that makes
windows wait.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass

SWITCH = "VLLM_ENABLE_POW"
STRICT = "TENSORPOW_VLLM_STRICT"
ANY_VERSION = "TENSORPOW_VLLM_ANY_VERSION"
BACKEND = "TENSORPOW_VLLM_BACKEND"
PARK_S = "TENSORPOW_VLLM_PARK_S"
STEP_WAIT_S = "TENSORPOW_VLLM_STEP_WAIT_S"
MAX_BODY = "TENSORPOW_VLLM_MAX_BODY"
ADMISSION_MODE = "POW_V3_ADMISSION_MODE"

BACKENDS = ("auto", "host", "torch", "triton")
TRUE = ("1", "true", "True")  # spec: sampler §9.2, the same words everywhere


class SettingError(ValueError):
    """A variable holds what cannot be honoured; the message names it."""


def enabled(env: Mapping[str, str] = os.environ) -> bool:
    """True when the operator switched mining on; otherwise the plugin does nothing at all."""
    return env.get(SWITCH, "") in TRUE


@dataclass(frozen=True)
class Settings:
    """The plugin's settings."""

    strict: bool = False
    """Where mining is refused, vLLM does not start either."""
    any_version: bool = False
    """Try releases that nobody has looked at."""
    backend: str = "auto"
    park_s: float = 2.0
    """Longest wait of a request for the nonce of a window; then the window is mined without one."""
    step_wait_s: float = 0.05
    """Longest wait of a whole step, where a request cannot be left out of it."""
    max_body: int = 16 * 1024 * 1024
    """Bytes of a request body that are read to look for a payload."""
    admission: bool = False
    """Windows of version 3 seek a nonce, so requests have to wait for theirs."""

    @classmethod
    def read(cls, env: Mapping[str, str] = os.environ) -> "Settings":
        """Reads the environment. Raises `SettingError`."""
        backend = env.get(BACKEND, "").strip() or "auto"
        if backend not in BACKENDS:
            raise SettingError(f"{BACKEND}={backend} is none of {', '.join(BACKENDS)}")
        return cls(
            strict=env.get(STRICT, "") in TRUE,
            any_version=env.get(ANY_VERSION, "") in TRUE,
            backend=backend,
            park_s=_seconds(env, PARK_S, cls.park_s),
            step_wait_s=_seconds(env, STEP_WAIT_S, cls.step_wait_s),
            max_body=_bytes(env, MAX_BODY, cls.max_body),
            # Anything but the two words makes tensorpow refuse its start. spec: admission §10.3
            admission=env.get(ADMISSION_MODE, "").strip().lower() == "always",
        )


def _seconds(env: Mapping[str, str], name: str, default: float) -> float:
    text = env.get(name, "").strip()
    if not text:
        return default
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= 600.0:
        raise SettingError(f"{name}={text} is no number of seconds from 0 to 600")
    return seconds


def _bytes(env: Mapping[str, str], name: str, default: int) -> int:
    text = env.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise SettingError(f"{name}={text} is no number of bytes above 0")
    return int(text)
