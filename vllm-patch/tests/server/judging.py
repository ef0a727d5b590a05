"""What a proof has to be: accepted by the library, and the record of exactly what its request was answered."""

from __future__ import annotations

import unittest

from tensorpow import Proof

from .asking import WINDOW, Asked
from .collector import Collector
from .payloads import ANY_SHARE, DIFFICULTY, MODEL

V3_FROM = 8000
"""The height of mainnet at which version 3 begins; before it a nonce is no part of the hashes."""
ABOVE_TARGET = "Q45"
"""The one check that a share, which is no solution, does not pass."""


class Judging(unittest.TestCase):
    """Assertions about proofs."""

    def check_run(self, collector: Collector, run: list[Asked]) -> int:
        """Every window that should have left a proof did, and nothing else; returns how many."""
        total = 0
        for asked in run:
            with self.subTest(asked.kind):
                proofs = collector.settled(asked.id, asked.windows)
                self.assertEqual(len(proofs), asked.windows, f"{len(asked.tokens)} tokens")
                for index, proof in enumerate(proofs):
                    self.check_proof(proof, asked, index)
            total += asked.windows
        self.assertEqual(len(collector.proofs()), total, "proofs that belong to nobody")
        return total

    def check_proof(self, proof: Proof, asked: Asked, index: int) -> None:
        """One proof against its request."""
        proof.self_check(ANY_SHARE)
        height = V3_FROM if proof.version >= 3 else V3_FROM - 1
        verdict = proof.verify("mainnet", height, DIFFICULTY)
        self.assertEqual(verdict.check, None if proof.is_solution else ABOVE_TARGET, verdict.reason)
        message = proof.message
        assert message is not None
        self.assertEqual(message.completion_id, asked.id)
        self.assertEqual(message.req_id, 7)
        self.assertEqual(message.pow_blob_hash, proof.commitment())
        self.assertEqual((proof.model_identifier, proof.compute_precision), (MODEL, "bf16"))
        start = index * WINDOW
        self.assertEqual(proof.chosen_tokens, asked.tokens[start : start + WINDOW], "what the client got")
        self.assertEqual(proof.prompt_tokens, asked.prompt + asked.tokens[:start], "what the model saw")
