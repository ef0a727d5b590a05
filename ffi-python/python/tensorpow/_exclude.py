"""Reasons that keep a request unmined although it carries a payload."""

from enum import IntFlag


class Exclude(IntFlag):
    """What an engine says about a request at `Engine.begin`; the lowest bit set is counted."""

    GRAMMAR = 1
    """Grammar, JSON schema, response format or tool calls."""
    SEVERAL_CHOICES = 2
    """Several choices of one prompt."""
    PENALTY = 4
    """Presence, frequency, repetition or DRY penalty."""
    LOGIT_BIAS = 8
    """Logit bias."""
    SAMPLER_OPTION = 16
    """Any other sampler set away from neutral by the request."""
    SEED = 32
    """A seed."""
    REASONING_BUDGET = 64
    """A reasoning budget."""
    ADAPTER = 128
    """LoRA, aLoRA or control vectors."""
    MULTIMODAL = 256
    """Input other than text."""
    CONTEXT_SHIFT = 512
    """The server shifts contexts or re-uses shifted caches."""
    NOT_COMPLETION = 1024
    """Embeddings, reranking, infilling."""
    BACKEND = 2048
    """Raw logits are not available."""
