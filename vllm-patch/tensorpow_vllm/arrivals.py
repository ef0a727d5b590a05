"""What a request brings: its payload, its prompt, its sampling numbers, and what keeps it unmined.

Read from the fields of vLLM's own objects by name, so one reading serves every release. A field
that is not known here and not at its default keeps the request unmined: whatever it does, no
verifier follows it.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tensorpow import Exclude

UNKNOWN_OPTION = 1 << 31
"""Bit of a reason without a name in `Exclude`; counted as `excluded_other`."""

KEY = "pow"
HOLDERS = ("vllm_xargs", "extra_sampling_params")
"""Keys a payload was or is found under. spec: proxy §8"""

# Fields of SamplingParams that leave the distribution of a token alone: they decide when a text
# ends, what is returned of it, or are read by name below.
HARMLESS = frozenset(
    (
        "temperature",
        "top_k",
        "top_p",
        "repetition_penalty",
        "presence_penalty",
        "frequency_penalty",
        "n",
        "best_of",
        "seed",
        "structured_outputs",
        "guided_decoding",
        "logit_bias",
        "thinking_token_budget",
        "extra_args",
        "stop",
        "stop_token_ids",
        "ignore_eos",
        "max_tokens",
        "logprobs",
        "prompt_logprobs",
        "prompt_logprob_token_ids",
        "prompt_logprob_start",
        "logprob_token_ids",
        "flat_logprobs",
        "detokenize",
        "skip_special_tokens",
        "spaces_between_special_tokens",
        "include_stop_str_in_output",
        "truncate_prompt_tokens",
        "output_kind",
        "output_text_buffer_length",
        "stream_interval",
        "skip_clone",
        "skip_reading_prefix_cache",
        "repetition_detection",
        "routed_experts_prompt_start",
        "_eos_token_id",
        "_all_stop_token_ids",
        "_watermarking_skipped",
        "_bad_words_token_ids",
        "_real_n",
    )
)
# Fields that shape the distribution when they are not neutral. spec: sampler §1
SHAPING = (
    "min_p",
    "min_tokens",
    "allowed_token_ids",
    "bad_words",
    "logits_processors",
    "watermarking",
    "trace_decode_token_ids",
)
# A choice of several is a request of its own, named by its number and its parent.
CHILD = re.compile(r"\d+_")


@dataclass(frozen=True)
class Arrival:
    """A request with a payload, as the engine side of tensorpow wants it."""

    req_id: str
    pow: Any
    """The payload as it came; tensorpow judges it."""
    prompt_ids: Sequence[int]
    completion_id: str
    temperature: float
    top_k: int
    top_p: float
    repetition_penalty: float
    exclusions: int


def payload_of(extra_args: Any) -> Any:
    """The payload among a request's extra arguments; None when there is none. spec: proxy §8"""
    if not isinstance(extra_args, Mapping):
        return None
    for holder in (extra_args, *(extra_args.get(name) for name in HOLDERS)):
        if isinstance(holder, Mapping) and holder.get(KEY) is not None:
            return holder[KEY]
    return None


def has_payload(request: Any) -> bool:
    """True for a request that wants to be mined."""
    params = getattr(request, "sampling_params", None)
    return params is not None and payload_of(getattr(params, "extra_args", None)) is not None


def arrival_of(request: Any, *, random_suffix: bool) -> Arrival | None:
    """Reads a scheduled request; None for one without a payload.

    `request` is vLLM's NewRequestData, or its Request. `random_suffix` says that the engine
    appends eight random digits to request ids.
    """
    params: Any = getattr(request, "sampling_params", None)
    pow_ = payload_of(getattr(params, "extra_args", None))
    if pow_ is None:
        return None
    req_id = str(getattr(request, "req_id", None) or request.request_id)
    return Arrival(
        req_id=req_id,
        pow=pow_,
        prompt_ids=request.prompt_token_ids or (),
        completion_id=completion_id(req_id, random_suffix=random_suffix),
        temperature=float(params.temperature),
        top_k=_top_k(params.top_k, pow_),
        top_p=float(params.top_p),
        repetition_penalty=float(params.repetition_penalty),
        exclusions=int(_of_request(request) | _of_params(params)) | _unknown(params),
    )


def completion_id(req_id: str, *, random_suffix: bool) -> str:
    """The id that the client sees. spec: proof-encoding §5.1"""
    if random_suffix:
        req_id = re.sub(r"-[0-9a-f]{8}$", "", req_id)
    # Only /v1/completions numbers its prompts; the first one's number is not shown.
    return req_id.removesuffix("-0") if req_id.startswith("cmpl-") else req_id


def _top_k(top_k: int, pow_: Any) -> int:
    """vLLM writes 0 where the request has none, which counts as 50 in audits. spec: sampler §9.1"""
    if top_k == 0 and _is_audit(pow_):
        return 50
    return int(top_k)


def _is_audit(pow_: Any) -> bool:
    if isinstance(pow_, str):
        # Of a text it is enough to know that it may be one: for others 0 is refused all the same.
        return re.search(r'\\?"audit_emit\\?"\s*:\s*true', pow_) is not None
    return isinstance(pow_, Mapping) and pow_.get("audit_emit") is True


def _of_request(request: Any) -> Exclude:
    """What the request is beside its sampling."""
    found = Exclude(0)
    req_id = str(getattr(request, "req_id", None) or request.request_id)
    if CHILD.match(req_id):
        found |= Exclude.SEVERAL_CHOICES
    if getattr(request, "lora_request", None) is not None:
        found |= Exclude.ADAPTER
    # Under their names of all releases.
    inputs = ("mm_features", "mm_inputs", "mm_kwargs", "mm_positions", "mm_hashes")
    if any(getattr(request, name, None) for name in inputs):
        found |= Exclude.MULTIMODAL
    if getattr(request, "prompt_embeds", None) is not None:
        found |= Exclude.MULTIMODAL
    if getattr(request, "pooling_params", None) is not None:
        found |= Exclude.NOT_COMPLETION
    return found


def _of_params(params: Any) -> Exclude:
    """What the request asks of its sampler beside the four numbers. spec: sampler §1"""
    found = Exclude(0)
    if any(getattr(params, name, None) is not None for name in ("structured_outputs", "guided_decoding")):
        found |= Exclude.GRAMMAR
    if any((getattr(params, name, None) or 1) > 1 for name in ("n", "best_of", "_real_n")):
        found |= Exclude.SEVERAL_CHOICES
    if params.presence_penalty or params.frequency_penalty or params.repetition_penalty != 1.0:
        found |= Exclude.PENALTY
    if getattr(params, "logit_bias", None):
        found |= Exclude.LOGIT_BIAS
    if any(getattr(params, name, None) for name in SHAPING):
        found |= Exclude.SAMPLER_OPTION
    # An empty list allows nothing, which is not the same as no list.
    if getattr(params, "allowed_token_ids", None) is not None:
        found |= Exclude.SAMPLER_OPTION
    if params.seed is not None:
        found |= Exclude.SEED
    if getattr(params, "thinking_token_budget", None) is not None:
        found |= Exclude.REASONING_BUDGET
    return found


_strangers: dict[type, tuple[tuple[str, Any], ...]] = {}


def _unknown(params: Any) -> int:
    """The bit of an unknown reason when a field that is not known here is not at its default."""
    kind = type(params)
    if kind not in _strangers:
        fields: Any = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", ())
        names = [name for name in fields if name not in HARMLESS and name not in SHAPING]
        neutral = kind() if names else None
        _strangers[kind] = tuple((name, getattr(neutral, name)) for name in names)
    changed = any(getattr(params, name) != default for name, default in _strangers[kind])
    return UNKNOWN_OPTION if changed else 0
