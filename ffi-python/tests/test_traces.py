"""The reference's traces (`traces` of the sampler vectors) through the Python package: every step
by the primitives, and whole sequences by an engine where the trace has an engine's shape.
"""

import hashlib
import json
import math
import struct
import unittest
from typing import Any

import numpy as np
import tensorpow
from payload import f32, payload
from tensorpow import targets
from vectors import every

Row = np.ndarray[Any, np.dtype[np.float32]]
TRACES: list[dict[str, Any]] = [trace for file in every("sampler") for trace in file["traces"]]
GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def mixed(z: Any) -> Any:
    """SplitMix64's finalizer, on 64-bit integers that wrap."""
    with np.errstate(over="ignore"):
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def following(h: Any, n: Any) -> Any:
    with np.errstate(over="ignore"):
        return mixed(h + GOLDEN * (n + np.uint64(1)))


MAPS = {
    "u24": lambda x: ((x >> np.uint64(40)).astype(np.float64) - 8_388_608.0) * 2.0**-20,
    "grid": lambda x: ((x >> np.uint64(57)).astype(np.float64) - 64.0) * 0.125,
    "sq24": lambda x: (x >> np.uint64(40)).astype(np.float64) ** 2 * 2.0**-44,
    "cube": lambda x: (x >> np.uint64(48)).astype(np.float64) ** 3 * 2.0**-43,
}


def rounded(row: Row, precision: str) -> Row:
    """The grid of the reference's C++ library; NumPy's own cast for fp16."""
    if precision == "bf16":
        bits = row.view(np.uint32).astype(np.uint64)
        bits = (bits + np.uint64(0x7FFF) + ((bits >> np.uint64(16)) & np.uint64(1))) & np.uint64(0xFFFF0000)
        snapped = bits.astype(np.uint32).view(np.float32)
        return np.where(np.isfinite(row), snapped, row)
    return row.astype(np.float16).astype(np.float32) if precision == "fp16" else row


def raw_row(trace: dict[str, Any], seq: int, position: int) -> Row:
    """The logits of a step, as the vector's generator makes them, before any rounding."""
    seed = np.uint64(int(trace["logits"]["seed"], 16))
    h = following(following(seed, np.uint64(seq)), np.uint64(position))
    ids = np.arange(trace["vocab"], dtype=np.uint64)
    row: Row = MAPS[trace["logits"]["map"]](following(h, ids)).astype(np.float32)
    for place, bits in trace.get("override_all", []):
        row[place] = f32(bits)
    return row


def row_of(trace: dict[str, Any], seq: int, position: int) -> Row:
    row = raw_row(trace, seq, position)
    return rounded(row, trace["precision"]) if trace["backend"] == "cpp" else row


def has_primitives(trace: dict[str, Any]) -> bool:
    """The package has no step of fewer than 50 logits, and no cut beyond rank 50, which only the
    reference's C++ library knows.
    """
    beyond = any(sequence["params"]["top_k"] > 50 for sequence in trace["sequences"])
    return trace["vocab"] >= 50 and not (trace["backend"] == "cpp" and beyond)


def by_engine(trace: dict[str, Any]) -> bool:
    """An engine follows what it would mine: its window, a mined label, a vocabulary that is mined,
    a profile within the bounds, nothing that is not finite, and no admission, which it grinds.
    """
    sequence = trace["sequences"][0]
    params, pow_ = sequence["params"], sequence["payload"]
    plain = not sequence.get("admission_nonces") and not trace.get("override_all")
    profile = (
        5 <= params["top_k"] <= 50
        and 0.1 <= params["top_p"] <= 1
        and 0.25 <= params["temperature"] <= 2
        and params.get("repetition_penalty", 1.0) == 1.0
    )
    door = sequence["prompt"] and len(pow_["header_prefix"]) == 152 and trace["vocab"] >= 128
    mined = trace["window_size"] == 256 and trace["precision"] in ("bf16", "fp16")
    return bool(plain and profile and door and mined and trace["backend"] == "cpp")


class Traces(unittest.TestCase):
    def near(self, ours: float, theirs: list[str], within: float) -> None:
        wanted = f32(theirs[1])
        if ours != wanted and not (math.isnan(ours) and math.isnan(wanted)):
            self.assertLessEqual(abs(ours - wanted), within)

    def check_evidence(self, evidence: tensorpow.Evidence, step: dict[str, Any]) -> None:
        packed = struct.pack("<70f70I", *evidence.logits, *evidence.ids)
        self.assertEqual(hashlib.sha256(packed).hexdigest(), step["evidence_sha256"])
        for ours, theirs in zip(evidence.stats, step.get("stats", []), strict=False):
            self.near(ours, theirs, 5e-6)

    def follow(self, trace: dict[str, Any], sequence: dict[str, Any]) -> int:
        """One sequence by the primitives; returns the number of steps."""
        pow_, params, window = sequence["payload"], sequence["params"], trace["window_size"]
        header = bytes.fromhex(pow_["header_prefix"] or pow_["block_hash"])
        vdf, precision = bytes.fromhex(pow_["vdf"]), trace["precision"]
        hasher = tensorpow.StepHasher(header, vdf, pow_["tick"])
        nonces = [bytes.fromhex(n) if n else None for n in sequence.get("admission_nonces") or []]
        expected = trace["expected"][str(sequence["seq"])]
        windows = iter(expected["windows"])
        context: list[int] = list(sequence["prompt"])
        for n, step in enumerate(expected["steps"]):
            nonce = nonces[n // window] if nonces else None
            digest = hasher.digest(n % window, context, precision, nonce, window)
            self.assertEqual(digest.hex(), step["digest"])
            self.assertEqual(tensorpow.draw(digest), f32(step["u"][1]))
            row = row_of(trace, sequence["seq"], n)
            evidence = tensorpow.Evidence.of(row, None, params["temperature"])
            self.check_evidence(evidence, step)
            top_k = min(params["top_k"], 50)
            choice = evidence.choose(digest, params["temperature"], top_k, params["top_p"])
            self.assertEqual(choice.token, step["token"])
            self.near(choice.upper_edge, step["prob"], 1e-6)
            self.near(choice.normalizer, step["log_z"], 5e-6)
            context.append(choice.token)
            if (n + 1) % window == 0:
                closing = hasher.closing(context[-window:], precision, nonce)
                self.check_window(pow_, closing, next(windows))
        self.assertEqual(list(windows), [])
        return len(expected["steps"])

    def check_window(self, pow_: dict[str, Any], closing: bytes, window: dict[str, Any]) -> None:
        self.assertEqual(closing.hex(), window["final_digest"])
        self.assertEqual(int.from_bytes(closing[:4], "little"), window["nonce"])
        hashed = targets.header_hash(bytes.fromhex(pow_["header_prefix"]), closing)
        self.assertEqual(hashed.hex(), window["header_hash_raw"])

    def test_every_step_by_the_primitives(self) -> None:
        steps = 0
        for trace in TRACES:
            if not has_primitives(trace):
                continue
            for sequence in trace["sequences"]:
                with self.subTest(trace=trace["name"], sequence=sequence["seq"]):
                    steps += self.follow(trace, sequence)
        self.assertGreater(steps, 0)
        print(f"traces by the primitives: {steps} steps")

    def test_sequences_of_an_engine(self) -> None:
        chosen = [trace for trace in TRACES if by_engine(trace)]
        self.assertGreater(len(chosen), 0)
        with tensorpow.Engine({}) as engine:
            for trace in chosen:
                for how in ("sample", "record", "batch"):
                    with self.subTest(trace=trace["name"], how=how):
                        self.follow_by_engine(engine, trace, how)
        print(f"traces by an engine: {len(chosen)}")

    def follow_by_engine(self, engine: tensorpow.Engine, trace: dict[str, Any], how: str) -> None:
        sequence = trace["sequences"][0]
        precision, params = trace["precision"], sequence["params"]
        # A payload door is stricter than a library: a target of zero is none.
        pow_ = payload(**sequence["payload"], compute_precision=precision) | {"target": "ff" * 32}
        pow_["model_identifier"] = trace["model_identifier"]
        with_json = json.dumps(pow_)
        mined = engine.begin(with_json, sequence["prompt"], trace["vocab"], **params)
        for n, step in enumerate(trace["expected"][str(sequence["seq"])]["steps"]):
            # Rounding is the engine's: it gets what the model would give.
            row = raw_row(trace, sequence["seq"], n)
            self.assertEqual(mined.next_u(), f32(step["u"][1]))
            if how == "sample":
                token = mined.sample(row)
            elif how == "record":
                evidence = tensorpow.Evidence.of(row, precision, params["temperature"])
                self.check_evidence(evidence, step)
                token = mined.record(evidence)
            else:
                (outcome,) = engine.sample_batch([mined], row[np.newaxis])
                assert isinstance(outcome, int), outcome
                token = outcome
            self.assertEqual(token, step["token"])
        mined.end()


if __name__ == "__main__":
    unittest.main()
