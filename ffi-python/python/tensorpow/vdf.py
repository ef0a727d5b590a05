"""The verifiable delay function: squarings that take their time, and a short proof of them."""

from tensorpow._lib import Prover, Published
from tensorpow._lib import vdf_prove as prove
from tensorpow._lib import vdf_verify as verify

__all__ = ["Prover", "Published", "prove", "verify"]
