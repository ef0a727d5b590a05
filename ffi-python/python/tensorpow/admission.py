"""The admission of version-3 windows: the nonce in `extra_flags` and the puzzle's numbers.

Whether a nonce solves the puzzle of a window is asked of its proof: `Proof.is_admitted`.
"""

from tensorpow._lib import admission_expected_tries as expected_tries
from tensorpow._lib import admission_extract as extract
from tensorpow._lib import admission_merge as merge
from tensorpow._lib import admission_prompt_commitment as prompt_commitment

__all__ = ["expected_tries", "extract", "merge", "prompt_commitment"]
