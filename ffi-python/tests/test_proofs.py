"""Proofs of the repository in every form, and the node's verdict on them."""

import unittest
from pathlib import Path

import tensorpow
from tensorpow import Proof
from vectors import ROOT, load

V1 = ROOT / "server" / "tests" / "proofs" / "full_v1.tpwa"
V3 = ROOT / "server" / "src" / "quickstart" / "another_miner.tpwa"
DIFFICULTY = 10_000_000


def read(path: Path) -> Proof:
    return Proof.from_bytes(path.read_bytes())


class Forms(unittest.TestCase):
    def test_every_form_leads_back_to_the_same_proof(self) -> None:
        for path in (V1, V3):
            proof = read(path)
            self.assertEqual(proof.to_bytes("compact"), path.read_bytes())
            self.assertEqual(Proof.from_bytes(bytearray(proof.to_bytes())), proof)
            self.assertEqual(len(proof.commitment()), 32)
            with self.assertRaisesRegex(tensorpow.ProofError, "mining response"):
                proof.to_bytes("mining_response")
        self.assertNotEqual(read(V1), read(V3))

    def test_fields_have_the_values_and_types_of_the_stub(self) -> None:
        proof = read(V1)
        source = load("verify")["bases"]["full_v1"]["proof"]
        self.assertEqual((proof.version, proof.tick), (source["version"], source["tick"]))
        self.assertEqual(proof.target.hex(), source["target"])
        self.assertEqual(proof.vdf.hex(), source["vdf"])
        self.assertIsInstance(proof.model_identifier, str)
        self.assertIsInstance(proof.extra_flags, bytes)
        self.assertEqual(len(proof.chosen_tokens), 256)
        self.assertEqual([len(row) for row in proof.topk_logits], [70] * 256)
        self.assertEqual([len(row) for row in proof.topk_indices], [70] * 256)
        self.assertEqual([len(row) for row in proof.logsumexp_stats], [6] * 256)
        self.assertIsInstance(proof.sampling_u[0], float)
        self.assertIn("256 tokens", repr(proof))

    def test_a_mining_response_keeps_its_message(self) -> None:
        seen = 0
        for case in load("proof")["mining_responses"]:
            packed = bytes.fromhex(case["bytes"])
            try:
                proof = Proof.from_bytes(packed)
            except tensorpow.ProofError:
                continue
            message = proof.message
            if message is None:
                continue
            seen += 1
            again = Proof.from_bytes(proof.to_bytes("mining_response"))
            assert again.message is not None
            for field in ("req_id", "nonce", "adjusted_bits", "pow_blob_hash", "completion_id"):
                self.assertEqual(getattr(again.message, field), getattr(message, field))
            self.assertEqual(again, proof)
        self.assertGreater(seen, 0)

    def test_what_is_no_proof_is_refused_with_a_reason(self) -> None:
        for data in (b"", b"hello, world", b"TPWA\x07", V1.read_bytes()[:-1]):
            with self.subTest(data=data[:8]), self.assertRaises(tensorpow.ProofError) as caught:
                Proof.from_bytes(data)
            self.assertGreater(len(str(caught.exception)), 10)
        with self.assertRaises(tensorpow.ProofError):
            read(V1).to_bytes("json")  # type: ignore[arg-type]


class Verdicts(unittest.TestCase):
    def test_a_proof_is_accepted_on_its_chain(self) -> None:
        verdict = read(V1).verify()
        self.assertTrue(verdict)
        self.assertEqual((verdict.verdict, verdict.check, verdict.reason), ("Quick_OK", None, None))
        self.assertEqual((verdict.version, verdict.is_solution), (1, True))
        self.assertEqual(len(verdict.header_hash or ""), 64)
        other = read(V3).verify(height=8000, difficulty=DIFFICULTY)
        self.assertTrue(other, repr(other))
        self.assertTrue(other.v3_active)
        self.assertIsNotNone(other.tier)

    def test_a_reject_names_its_check(self) -> None:
        late = read(V1).verify(height=1500)
        self.assertFalse(late)
        self.assertEqual(late.verdict, "Quick_OK")
        self.assertIsNotNone(late.check)
        self.assertIn("rejected", repr(late))
        unregistered = read(V1).verify(difficulty=0)
        self.assertEqual(unregistered.verdict, "Quick_Fail_Model_Unregistered")

    def test_what_cannot_be_judged_is_no_reject(self) -> None:
        with self.assertRaisesRegex(tensorpow.NoVerdict, "difficulty"):
            read(V3).verify(height=8000)
        with self.assertRaisesRegex(ValueError, "networks"):
            read(V1).verify("main")
        with self.assertRaises(ValueError):
            read(V1).verify(difficulty=-1)

    def test_an_admission_is_judged_by_its_proof(self) -> None:
        proof = read(V3)
        nonce = proof.admission_nonce
        assert nonce is not None
        self.assertTrue(proof.is_admitted(DIFFICULTY))
        self.assertTrue(proof.is_admitted(DIFFICULTY, nonce))
        self.assertFalse(proof.is_admitted(1))
        self.assertFalse(read(V1).is_admitted(DIFFICULTY))
        with self.assertRaises(ValueError):
            proof.is_admitted(0)
        with self.assertRaises(ValueError):
            proof.is_admitted(DIFFICULTY, nonce[:31])

    def test_a_self_check_reports_and_refuses(self) -> None:
        self.assertIn("steps in their interval: 256 of 256", read(V1).self_check())
        with self.assertRaises(tensorpow.CheckFailed):
            damaged(read(V1)).self_check()


def damaged(proof: Proof) -> Proof:
    """The same proof with another closing digest."""
    data = proof.to_bytes()
    return Proof.from_bytes(data.replace(proof.hash, bytes(32)))


if __name__ == "__main__":
    unittest.main()
