"""Targets, the VDF and admission against the vectors of the core."""

import _thread
import signal
import threading
import time
import unittest

from tensorpow import admission, targets, vdf
from vectors import load

BLOB_BYTES = 200


def number(text: str) -> int:
    return int(text, 16)


class Targets(unittest.TestCase):
    def test_compact_to_target_and_back(self) -> None:
        vectors = load("targets")
        for case in vectors["compact_to_target"]:
            if case["valid_tensor"]:
                self.assertEqual(targets.compact_to_target(case["bits"]), number(case["target"]))
            else:
                with self.assertRaises(ValueError):
                    targets.compact_to_target(case["bits"])
        for case in vectors["target_to_compact"]:
            self.assertEqual(targets.target_to_compact(number(case["target"])), case["bits"])

    def test_what_is_no_target_is_refused(self) -> None:
        for wrong in (-1, 2**256):
            with self.assertRaisesRegex(ValueError, "256"):
                targets.target_to_compact(wrong)
        with self.assertRaises(TypeError):
            targets.target_to_compact("00ff")  # type: ignore[arg-type]

    def test_the_model_adjustment(self) -> None:
        seen = 0
        for case in load("targets")["adjusted_bits"]["cases"]:
            if number(case["pow_limit"]) != 2**255 - 1:
                continue
            seen += 1
            arguments = (case["bits"], case["difficulty"], case["normalizer"])
            if not case["ok"] or number(case["adjusted_target"]) == 0:
                with self.assertRaises(ValueError):
                    targets.adjust_for_model(*arguments)
                continue
            adjusted = targets.adjust_for_model(*arguments)
            self.assertEqual(adjusted.bits, case["adjusted_bits"])
            self.assertEqual(adjusted.target, number(case["adjusted_target"]))
            self.assertEqual(adjusted.max_target, number(case["max_target"]))
        self.assertGreater(seen, 50)

    def test_share_targets(self) -> None:
        seen = 0
        for case in load("targets")["share_targets"]["cases"]:
            base, result = case["base_share_target"], case.get("adjusted_share_target")
            plain = isinstance(base, str) and 0 < len(base) <= 64 and base.isalnum()
            if not plain or "x" in base.lower() or result is None or case["difficulty"] < 1:
                continue
            seen += 1
            share = targets.share_target(number(base), case["difficulty"], case["normalizer"])
            self.assertEqual(share, number(result))
        self.assertGreater(seen, 50)
        with self.assertRaises(ValueError):
            targets.share_target(1, 1, 0)

    def test_header_prefixes(self) -> None:
        seen = 0
        for case in load("targets")["header_prefix"]:
            if "prev_block_hash" not in case:
                continue
            seen += 1
            parent = bytes.fromhex(case["prev_block_hash"])
            root = bytes.fromhex(case["merkle_root"])
            values = (case["version"], parent, root, case["timestamp"], case["bits"])
            prefix = targets.header_prefix(*values)
            self.assertEqual(prefix.hex(), case["header_prefix"])
            f = targets.header_fields(prefix)
            self.assertEqual((f.version, f.parent, f.merkle_root, f.time, f.bits), values)
            changed = targets.with_bits(prefix, case["new_bits"])
            self.assertEqual(changed.hex(), case["with_new_bits"])
        self.assertGreater(seen, 5)
        with self.assertRaisesRegex(ValueError, "76 bytes, not 75"):
            targets.header_fields(bytes(75))

    def test_the_header_test(self) -> None:
        for case in load("targets")["header_checks"]:
            digest = bytes.fromhex(case["digest"])
            hashed = targets.header_hash(bytes.fromhex(case["header_prefix"]), digest)
            self.assertEqual(hashed.hex(), case["header_hash"])
            if len(case["target"]) == 64:
                met = targets.is_met_by(number(case["target"]), hashed)
                self.assertEqual(met, case["block_ok"])


class Vdf(unittest.TestCase):
    def test_proofs_are_made_and_judged_as_the_vectors_say(self) -> None:
        seen = 0
        for case in load("vdf")["proofs"]:
            if case["bits"] != 1024 or case["iterations"] > 2000 or len(case["challenge"]) != 64:
                continue
            seen += 1
            challenge = bytes.fromhex(case["challenge"])
            blob = vdf.prove(challenge, case["iterations"])
            self.assertTrue(blob.hex().startswith(case["y"]))
            self.assertTrue(vdf.verify(challenge, case["iterations"], blob))
            self.assertFalse(vdf.verify(challenge, case["iterations"] + 1, blob))
        self.assertGreater(seen, 5)

    def test_the_cases_of_the_node(self) -> None:
        seen = {True: 0, False: 0}
        for case in load("vdf")["node_cases"][:120]:
            if case["bits"] != 1024 or case["recursion"] != 0 or len(case["challenge"]) != 64:
                continue
            if not 0 <= case["tick"] < 2**64 or case["node_verify"] is None:
                continue
            challenge, blob = bytes.fromhex(case["challenge"]), bytes.fromhex(case["proof"])
            verdict = vdf.verify(challenge, case["tick"], blob)
            self.assertEqual(verdict, case["node_verify"], case["kind"])
            seen[verdict] += 1
        self.assertGreater(min(seen.values()), 5)

    def test_wrong_arguments(self) -> None:
        with self.assertRaisesRegex(ValueError, "32 bytes"):
            vdf.prove(bytes(31), 1)
        with self.assertRaisesRegex(ValueError, "at most"):
            vdf.prove(bytes(32), 2**32)
        with self.assertRaises(OverflowError):
            vdf.prove(bytes(32), -1)
        self.assertFalse(vdf.verify(bytes(32), 1, b""))

    def test_an_interrupt_ends_a_long_proof(self) -> None:
        # Whoever runs the tests in the background has it ignored.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        self.addCleanup(signal.signal, signal.SIGINT, before)
        timer = threading.Timer(0.3, _thread.interrupt_main)
        timer.start()
        with self.assertRaises(KeyboardInterrupt):
            vdf.prove(bytes(32), 2**32 - 1)
        timer.join()

    def test_a_prover_streams_and_turns_to_another_challenge(self) -> None:
        with vdf.Prover(b"\x01" * 32, chunk=256) as prover:
            first = prover.latest(wait_s=30)
            assert first is not None
            self.assertEqual(first.challenge, b"\x01" * 32)
            self.assertEqual(first.tick % 256, 0)
            self.assertEqual(len(first.blob), BLOB_BYTES)
            self.assertTrue(vdf.verify(first.challenge, first.tick, first.blob))
            prover.reset(b"\x02" * 32)
            second = prover.latest(wait_s=30)
            assert second is not None
            self.assertEqual(second.challenge, b"\x02" * 32)
            self.assertGreater(prover.ticks, 0)
        stopped = prover.ticks
        time.sleep(0.05)
        self.assertEqual(prover.ticks, stopped)


class Admission(unittest.TestCase):
    def test_claims_are_read_as_the_vectors_say(self) -> None:
        for case in load("admission")["carrier"]:
            nonce = admission.extract(bytes.fromhex(case["extra_flags"]))
            self.assertEqual(None if nonce is None else nonce.hex(), case["nonce"])

    def test_what_is_merged_can_be_read_back(self) -> None:
        merged = 0
        for case in load("admission")["merge"]:
            if len(case["nonce"]) != 64 or case["nonce"] != case["nonce"].lower():
                continue
            nonce = bytes.fromhex(case["nonce"])
            try:
                flags = admission.merge(bytes.fromhex(case["input"]), nonce)
            except ValueError:
                # Too long for a carrier; the reference loses the nonce then.
                self.assertFalse(case["cpp_recovers"])
                continue
            merged += 1
            self.assertEqual(admission.extract(flags), nonce)
        self.assertGreater(merged, 5)

    def test_expected_tries(self) -> None:
        for case in load("admission")["target"]:
            difficulty = int(case["difficulty"])
            if case["expected_tries"] is None:
                with self.assertRaises(ValueError):
                    admission.expected_tries(difficulty)
            else:
                tries = admission.expected_tries(difficulty)
                self.assertEqual(tries, int(case["expected_tries"]))

    def test_prompt_commitments(self) -> None:
        seen = 0
        for case in load("admission")["prompt_commitment"]:
            mask = case["pad_mask"] or []
            if case.get("commitment") is None or len(mask) not in (0, len(case["prompt_tokens"])):
                continue
            seen += 1
            given = bytes(mask) if mask else None
            ours = admission.prompt_commitment(case["prompt_tokens"], given)
            self.assertEqual(ours.hex(), case["commitment"])
        self.assertGreater(seen, 3)
        with self.assertRaises(ValueError):
            admission.prompt_commitment([1, 2], b"\0")


if __name__ == "__main__":
    unittest.main()
