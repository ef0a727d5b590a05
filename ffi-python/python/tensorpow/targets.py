"""Targets as integers, their compact form, and the 76 bytes of a header that a job hands out."""

from tensorpow._lib import (
    Adjusted,
    HeaderFields,
    adjust_for_model,
    compact_to_target,
    header_fields,
    header_hash,
    header_prefix,
    is_met_by,
    share_target,
    target_to_compact,
    with_bits,
)

__all__ = [
    "Adjusted",
    "HeaderFields",
    "adjust_for_model",
    "compact_to_target",
    "header_fields",
    "header_hash",
    "header_prefix",
    "is_met_by",
    "share_target",
    "target_to_compact",
    "with_bits",
]
