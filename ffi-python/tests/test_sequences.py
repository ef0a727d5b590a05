"""Engines, sequences and batches: arguments, arrays of every kind, errors, threads, the way of a
window to a proof.
"""

import array
import os
import tempfile
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import tensorpow
from payload import PREFIX, VOCAB, as_json, metric, payload
from tensorpow import Exclude

Array = np.ndarray[Any, np.dtype[np.float32]]


def some_rows(count: int, width: int = VOCAB) -> Array:
    """Rows that are all different, on the bf16 grid."""
    random = np.random.default_rng(count * 1000 + width)
    return (random.integers(-64, 64, (count, width)) / 8).astype(np.float32)


class OnTheCpu:
    """A tensor of another library: nothing but DLPack, as torch gives it."""

    def __init__(self, values: Array) -> None:
        self.values = values

    def __dlpack__(self, **options: Any) -> Any:
        return self.values.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.values.__dlpack_device__()


class Begin(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = tensorpow.Engine({})
        self.addCleanup(self.engine.close)

    def test_a_payload_is_a_dict_or_text_and_a_prompt_any_integers(self) -> None:
        row = some_rows(1)[0]
        prompts: list[Any] = [[1, 2, 3], (1, 2, 3), np.array([1, 2, 3]), array.array("i", [1, 2, 3])]
        tokens = set()
        for pow_ in (payload(), as_json()):
            for prompt in prompts:
                sequence = self.engine.begin(pow_, prompt, VOCAB)
                tokens.add(sequence.sample(row))
                sequence.end()
        self.assertEqual(len(tokens), 1)

    def test_what_is_not_mined_says_why_and_is_counted(self) -> None:
        cases: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
            ("vocabulary", {}, {"vocab": 127}),
            ("empty_prompt", {}, {"prompt_ids": []}),
            ("prompt_token", {}, {"prompt_ids": [1, -1]}),
            ("temperature", {}, {"temperature": 0.0}),
            ("top_k", {}, {"top_k": 0}),
            ("seed", {}, {"exclusions": Exclude.SEED | Exclude.BACKEND}),
            ("precision_unsupported", {"compute_precision": "fp32"}, {}),
        ]
        for label, changes, arguments in cases:
            with self.subTest(label), self.assertRaises(tensorpow.NotMined) as caught:
                usual: dict[str, Any] = {"prompt_ids": [1], "vocab": VOCAB}
                self.engine.begin(payload(**changes), **(usual | arguments))
            self.assertEqual(caught.exception.label, label)
            self.assertIsInstance(caught.exception, tensorpow.Error)
            counter = f'tensorpow_not_mined_total{{reason="{label}"}}'
            self.assertEqual(metric(self.engine.metrics(), counter), 1)

    def test_wrong_arguments_are_counted_too(self) -> None:
        wrong: list[tuple[Any, Any]] = [(7, [1]), (payload(), [1.5]), (payload(), [2**32])]
        for pow_, prompt in wrong:
            with self.assertRaises((TypeError, ValueError)):
                self.engine.begin(pow_, prompt, VOCAB)
        counter = 'tensorpow_not_mined_total{reason="invalid_argument"}'
        self.assertEqual(metric(self.engine.metrics(), counter), 3)

    def test_settings_that_cannot_be_honoured_refuse_the_start(self) -> None:
        with self.assertRaisesRegex(tensorpow.SettingsError, "POW_PROOF_VERSION"):
            tensorpow.Engine({"POW_PROOF_VERSION": "9"})

    def test_a_closed_engine_says_so_and_its_sequences_go_on(self) -> None:
        sequence = self.engine.begin(payload(), [1], VOCAB)
        self.engine.close()
        self.engine.close()
        with self.assertRaisesRegex(RuntimeError, "closed"):
            self.engine.begin(payload(), [1], VOCAB)
        self.assertLess(sequence.sample(some_rows(1)[0]), VOCAB)

    def test_a_fork_is_told_that_its_engine_has_no_threads(self) -> None:
        sequences = [self.engine.begin(payload(), [i], VOCAB) for i in (1, 2)]
        logits = some_rows(2)
        child = os.fork()
        if child == 0:
            calls: list[Callable[[], object]] = [
                lambda: self.engine.begin(payload(), [1], VOCAB),
                lambda: self.engine.sample_batch(sequences, logits),
            ]
            refused = 0
            for call in calls:
                try:
                    call()
                except RuntimeError as error:
                    refused += "fork" in str(error)
            self.engine.close()
            os._exit(0 if refused == len(calls) else 1)
        _, status = os.waitpid(child, 0)
        self.assertEqual(status, 0)
        self.assertIsInstance(self.engine.sample_batch(sequences, logits)[0], int)


class Sample(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = tensorpow.Engine({}, threads=2)
        self.addCleanup(self.engine.close)

    def begin(self, seed: int = 1, vocab: int = VOCAB) -> tensorpow.Sequence:
        return self.engine.begin(payload(), [seed], vocab)

    def test_every_kind_of_array_gives_the_same_token(self) -> None:
        row = some_rows(1)[0]
        wide = np.zeros((3, 2 * VOCAB), np.float32)
        wide[1, :VOCAB] = row
        frozen = row.copy()
        frozen.flags.writeable = False
        kinds: dict[str, Any] = {
            "NumPy": row,
            "read-only": frozen,
            "view": wide[1, :VOCAB],
            "DLPack": OnTheCpu(row),
            "array": array.array("f", row.tolist()),
            "memoryview": memoryview(array.array("f", row.tolist())),
        }
        expected = self.begin().sample(row)
        for kind, logits in kinds.items():
            with self.subTest(kind):
                self.assertEqual(self.begin().sample(logits), expected)

    def test_arrays_that_cannot_be_read_in_place_are_refused_and_nothing_happens(self) -> None:
        sequence = self.begin()
        row = some_rows(1)[0]
        unaligned = np.frombuffer(b"\0" + row.tobytes(), np.uint8)[1:].view(np.float32)
        wrong: list[tuple[type[Exception], Any]] = [
            (TypeError, row.astype(np.float64)),
            (TypeError, row.astype(np.float16)),
            (TypeError, row[np.newaxis]),
            (TypeError, row.tolist()),
            (TypeError, None),
            (ValueError, some_rows(2).T[0]),
            (ValueError, np.repeat(row, 2)[::2]),
            (ValueError, unaligned),
            (TypeError, row.astype(">f4")),
        ]
        for kind, logits in wrong:
            with self.subTest(logits=logits), self.assertRaises(kind):
                sequence.sample(logits)
        self.assertEqual(sequence.drawn, 0)
        self.assertLess(sequence.sample(row), VOCAB)
        self.assertEqual((sequence.drawn, sequence.vocab), (1, VOCAB))
        self.assertEqual((sequence.precision, sequence.temperature), ("bf16", 1.0))

    def test_a_row_that_cannot_be_mined_stops_the_sequence(self) -> None:
        row = some_rows(1)[0]
        nan = row.copy()
        nan[3] = np.nan
        for label, logits in [("logits_nan", nan), ("row_width", row[:200])]:
            sequence = self.begin()
            self.assertIsNotNone(sequence.next_u())
            for again in (logits, row):
                with self.subTest(label), self.assertRaises(tensorpow.Stopped) as caught:
                    sequence.sample(again)
                self.assertEqual(caught.exception.label, label)
            self.assertIsNone(sequence.next_u())
            self.assertTrue(sequence.ready())
            counter = f'tensorpow_sequences_stopped_total{{reason="{label}"}}'
            self.assertEqual(metric(self.engine.metrics(), counter), 1)

    def test_the_draw_is_known_before_the_logits(self) -> None:
        sequence = self.begin()
        hasher = tensorpow.StepHasher(PREFIX, b"\x22" * 100, 77)
        context = [1]
        for j, row in enumerate(some_rows(300)):
            digest = hasher.digest(j % 256, context, "bf16")
            self.assertEqual(sequence.next_u(), tensorpow.draw(digest))
            expected = tensorpow.Evidence.of(row, "bf16").choose(digest).token
            self.assertEqual(sequence.sample(row), expected)
            context.append(expected)

    def test_evidence_of_a_device_gives_the_same_tokens_and_nonsense_stops(self) -> None:
        by_rows, by_evidence = self.begin(), self.begin()
        for row in some_rows(20):
            evidence = tensorpow.Evidence.of(row, "bf16")
            again = tensorpow.Evidence(np.array(evidence.logits, np.float32), evidence.ids, evidence.stats)
            again.check(VOCAB, "bf16")
            self.assertEqual(by_evidence.record(again), by_rows.sample(row))
        swapped = tensorpow.Evidence(again.logits[::-1], again.ids, again.stats)
        with self.assertRaises(ValueError):
            swapped.check(VOCAB, "bf16")
        with self.assertRaises(tensorpow.Stopped) as caught:
            by_evidence.record(swapped)
        self.assertTrue(caught.exception.label.startswith("evidence_"))
        with self.assertRaises(ValueError):
            tensorpow.Evidence([0.0] * 69, again.ids, again.stats)

    def test_an_ended_sequence_says_so(self) -> None:
        sequence = self.begin()
        with self.assertRaises(ValueError):
            sequence.end("done")  # type: ignore[arg-type]
        sequence.end("cancelled")
        sequence.end()
        for call in (sequence.ready, sequence.next_u, lambda: sequence.drawn):
            with self.assertRaisesRegex(RuntimeError, "ended"):
                call()
        counter = 'tensorpow_sequences_ended_total{reason="cancelled"}'
        self.assertEqual(metric(self.engine.metrics(), counter), 1)

    def test_waiting_times_are_checked(self) -> None:
        sequence = self.begin()
        self.assertTrue(sequence.ready(0.5))
        for wrong in (-1.0, float("nan"), float("inf")):
            with self.assertRaises(ValueError):
                sequence.ready(wrong)


class Batch(unittest.TestCase):
    def setUp(self) -> None:
        self.engine = tensorpow.Engine({}, threads=3)
        self.addCleanup(self.engine.close)

    def begin(self, count: int) -> list[tensorpow.Sequence]:
        return [self.engine.begin(payload(), [seed + 1], VOCAB) for seed in range(count)]

    def test_a_batch_in_any_order_is_the_same_as_one_by_one(self) -> None:
        batched, single = self.begin(17), self.begin(17)
        random = np.random.default_rng(5)
        for step in range(30):
            logits = some_rows(20 + step)
            order = random.permutation(17)
            rows = random.permutation(len(logits))[:17].tolist()
            tokens = self.engine.sample_batch([batched[i] for i in order], logits, rows)
            expected = [single[i].sample(logits[row]) for i, row in zip(order, rows, strict=True)]
            self.assertEqual(tokens, expected)

    def test_rows_with_padding_and_foreign_tensors_are_read_in_place(self) -> None:
        wide = np.zeros((4, VOCAB + 64), np.float32)
        wide[:, :VOCAB] = some_rows(4)
        expected = self.engine.sample_batch(self.begin(4), some_rows(4))
        kinds: list[Any] = [wide[:, :VOCAB], OnTheCpu(wide[:, :VOCAB]), wide[::-1, :VOCAB]]
        for number, logits in enumerate(kinds):
            rows = [3, 2, 1, 0] if number == 2 else None
            self.assertEqual(self.engine.sample_batch(self.begin(4), logits, rows), expected)
        for scattered in (np.asfortranarray(some_rows(4)), np.repeat(some_rows(4), 2, 1)[:, ::2]):
            with self.assertRaises(ValueError):
                self.engine.sample_batch(self.begin(4), scattered)

    def test_evidence_of_many_rows_gives_the_tokens_of_the_rows(self) -> None:
        by_rows, by_evidence = self.begin(9), self.begin(9)
        for step in range(5):
            rows = some_rows(9 + step)[:9]
            taken = [tensorpow.Evidence.of(row, "bf16") for row in rows]
            logits = np.array([one.logits for one in taken], np.float32)
            ids = np.array([one.ids for one in taken], np.int32)
            stats = np.array([one.stats for one in taken], np.float32)
            tokens = self.engine.record_batch(by_evidence, OnTheCpu(logits), ids, stats)
            self.assertEqual(tokens, self.engine.sample_batch(by_rows, rows))
        ids[3, 0] = -1
        outcomes = self.engine.record_batch(by_evidence, logits, ids, stats)
        self.assertEqual([at for at, one in enumerate(outcomes) if isinstance(one, tensorpow.Stopped)], [3])
        wrong: list[tuple[type[Exception], Any]] = [
            (ValueError, (logits[:8], ids, stats)),
            (ValueError, (logits[:, :69], ids, stats)),
            (ValueError, (logits, ids[:, :69], stats)),
            (ValueError, (logits[:8], ids[:8], stats[:8])),
            (TypeError, (logits, ids.astype(np.int64), stats)),
            (TypeError, (logits.astype(np.float64), ids, stats)),
        ]
        drawn = [one.drawn for one in by_evidence]
        for kind, arrays in wrong:
            with self.assertRaises(kind):
                self.engine.record_batch(by_evidence, *arrays)
        self.assertEqual([one.drawn for one in by_evidence], drawn)

    def test_a_row_that_stops_leaves_the_others_alone(self) -> None:
        logits = some_rows(3)
        logits[1, 5] = np.inf
        sequences = self.begin(3)
        first, stopped, last = self.engine.sample_batch(sequences, logits)
        self.assertIsInstance(first, int)
        self.assertIsInstance(last, int)
        assert isinstance(stopped, tensorpow.Stopped)
        self.assertEqual(stopped.label, "logits_infinite")
        self.assertEqual([s.drawn for s in sequences], [1, 0, 1])

    def test_a_batch_with_wrong_arguments_steps_nobody(self) -> None:
        sequences = self.begin(2)
        logits = some_rows(2)
        ended = self.begin(1)
        ended[0].end()
        wrong: list[tuple[type[Exception], Any, Any, Any]] = [
            (ValueError, sequences, logits, [0]),
            (ValueError, sequences, logits, [0, 2]),
            (ValueError, sequences, logits[:1], None),
            (OverflowError, sequences, logits, [0, -1]),
            (TypeError, sequences, logits[0], None),
            (RuntimeError, sequences[:1] * 2, logits, None),
            (RuntimeError, sequences[:1] + ended, logits, None),
        ]
        for kind, members, rows_of, rows in wrong:
            with self.subTest(kind=kind, rows=rows), self.assertRaises(kind):
                self.engine.sample_batch(members, rows_of, rows)
        self.assertEqual([s.drawn for s in sequences], [0, 0])
        self.assertEqual(self.engine.sample_batch([], logits), [])

    def test_other_threads_run_while_a_batch_is_sampled(self) -> None:
        width = 100_000
        sequences = [self.engine.begin(payload(), [i + 1], width) for i in range(64)]
        logits = some_rows(64, width)
        counted = 0
        done = threading.Event()

        def count() -> None:
            nonlocal counted
            while not done.is_set():
                counted += 1
                time.sleep(0)

        other = threading.Thread(target=count)
        other.start()
        during = 0
        for _ in range(5):
            before = counted
            self.engine.sample_batch(sequences, logits)
            during = max(during, counted - before)
        done.set()
        other.join()
        # With the interpreter held, the other thread would come to nothing but the hand-over.
        self.assertGreater(during, 20)

    def test_a_sequence_in_two_threads_is_refused_and_not_broken(self) -> None:
        width = 100_000
        sequence = self.engine.begin(payload(), [1], width)
        row = some_rows(1, width)[0]
        refused: list[str] = []
        drawn: list[int] = []

        def sample() -> None:
            for _ in range(200):
                try:
                    drawn.append(sequence.sample(row))
                except RuntimeError as error:
                    refused.append(str(error))

        threads = [threading.Thread(target=sample) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(sequence.drawn, len(drawn))
        self.assertEqual({text for text in refused if "in use" not in text}, set())


class Admission(unittest.TestCase):
    """Windows of version 3 wait for their nonce, and whoever waits for them knows."""

    def setUp(self) -> None:
        settings = {
            "POW_PROOF_VERSION": "3",
            "POW_V3_ADMISSION_MODE": "always",
            "POW_V3_GRIND_THREADS": "1",
        }
        self.engine = tensorpow.Engine(settings)
        self.addCleanup(self.engine.close)

    def test_a_window_that_seeks_its_nonce_is_not_ready_and_has_no_draw(self) -> None:
        hard = self.engine.begin(payload(difficulty=1, proof_version=3), [1], VOCAB)
        self.assertFalse(hard.ready())
        self.assertIsNone(hard.next_u())
        started = time.monotonic()
        self.assertFalse(hard.ready(wait_s=0.1))
        self.assertGreaterEqual(time.monotonic() - started, 0.1)
        hard.end("cancelled")

    def test_a_search_that_takes_too_long_is_given_up(self) -> None:
        hard = self.engine.begin(payload(difficulty=1, proof_version=3), [1], VOCAB)
        self.assertFalse(hard.ready())
        hard.forgo_admission()
        self.assertTrue(hard.ready())
        self.assertIsNotNone(hard.next_u())
        self.assertLess(hard.sample(some_rows(1)[0]), VOCAB)
        counter = 'tensorpow_admission_windows_total{outcome="given_up"}'
        self.assertEqual(metric(self.engine.metrics(), counter), 1)

    def test_a_window_is_ready_when_its_nonce_is_found(self) -> None:
        # One try is expected at this difficulty.
        easy = payload(difficulty=60_000_000, proof_version=3)
        sequences = [self.engine.begin(easy, [i + 1], VOCAB) for i in range(3)]
        for sequence in sequences:
            self.assertTrue(sequence.ready(wait_s=60))
            self.assertIsNotNone(sequence.next_u())
        self.assertEqual(len(self.engine.sample_batch(sequences, some_rows(3))), 3)
        self.assertGreaterEqual(metric(self.engine.metrics(), "tensorpow_admission_tries_total"), 3)


class Windows(unittest.TestCase):
    def mine(self, mode: str, **changes: Any) -> tuple[list[int], list[tensorpow.Proof]]:
        """One window; its tokens and the proofs that came of it."""
        with tempfile.TemporaryDirectory() as folder:
            settings = {"PROOF_SAVE_DIR": folder, "POW_EGRESS_MODE": mode}
            with tensorpow.Engine(settings, engine="test") as engine:
                pow_ = payload(**changes)
                sequence = engine.begin(pow_, [5, 6, 7], VOCAB, completion_id="cmpl-1")
                tokens = [sequence.sample(row) for row in some_rows(256)]
                sequence.end()
            files = sorted(Path(folder).rglob("*.bin"))
            return tokens, [tensorpow.Proof.from_bytes(file.read_bytes()) for file in files]

    def test_an_audit_is_written_of_every_window(self) -> None:
        tokens, proofs = self.mine("broker", audit_emit=True)
        (proof,) = proofs
        self.assertEqual(proof.chosen_tokens, tokens)
        self.assertEqual((proof.prompt_tokens, proof.tick), ([5, 6, 7], 77))
        self.assertIn("steps in their interval: 256 of 256", proof.self_check())

    def test_a_solution_leaves_with_its_message(self) -> None:
        for time_ in range(30):
            prefix = PREFIX[:68] + time_.to_bytes(4, "little") + PREFIX[72:]
            tokens, proofs = self.mine("local_miner", header_prefix=prefix.hex())
            if proofs:
                break
        (proof,) = proofs
        self.assertTrue(proof.is_solution)
        self.assertEqual(proof.chosen_tokens, tokens)
        self.assertIn("meets its target", proof.self_check())
        # The node looks at the VDF proof too, and this one is none.
        self.assertEqual(proof.verify("regtest").check, "Q14")


if __name__ == "__main__":
    unittest.main()
