"""The reference's traces through the plugin's step: requests whose model gives the logits of a
trace, in batches with others, prefilled in chunks and preempted, get its tokens, draw by draw.

A payload door is stricter than a library and an engine rounds; so the traces run on the library's
primitives behind the plugin, and those of an engine's shape on the engine as well.
"""

import hashlib
import json
import struct
import unittest
from typing import Any
from unittest import mock

import numpy as np
import tensorpow

# The Python package's own test of the traces, for the generator of their logits.
import test_traces as package
from payload import f32, payload
from world import Params, Vllm, World, a_config


def is_scheduled(trace: dict[str, Any]) -> bool:
    """No server schedules a request without a prompt."""
    return all(sequence["prompt"] for sequence in trace["sequences"])


class ByPrimitives:
    """A sequence of a trace, in the parts of the library."""

    def __init__(self, trace: dict[str, Any], sequence: dict[str, Any]) -> None:
        pow_, self.params = sequence["payload"], sequence["params"]
        header = bytes.fromhex(pow_["header_prefix"] or pow_["block_hash"])
        self.hasher = tensorpow.StepHasher(header, bytes.fromhex(pow_["vdf"]), pow_["tick"])
        self.precision, self.window = trace["precision"], trace["window_size"]
        self.nonces = [bytes.fromhex(one) if one else None for one in sequence.get("admission_nonces") or []]
        self.context: list[int] = list(sequence["prompt"])
        self.steps: list[tuple[bytes, tensorpow.Evidence, tensorpow.Choice]] = []

    def sample(self, row: Any) -> int:
        n = len(self.steps)
        nonce = self.nonces[n // self.window] if self.nonces else None
        digest = self.hasher.digest(n % self.window, self.context, self.precision, nonce, self.window)
        evidence = tensorpow.Evidence.of(np.array(row), None, self.params["temperature"])
        top_k = min(self.params["top_k"], 50)
        choice = evidence.choose(digest, self.params["temperature"], top_k, self.params["top_p"])
        self.steps.append((digest, evidence, choice))
        self.context.append(choice.token)
        return choice.token

    def ready(self, wait_s: float = 0.0) -> bool:
        return True

    def end(self, reason: str) -> None: ...


class InPlaceOfTheEngine:
    """Begins the sequences of a trace by their ids; also the back end that samples them."""

    name = "primitives"

    def __init__(self, sequences: dict[str, ByPrimitives]) -> None:
        self.sequences = sequences

    def begin(self, pow_: Any, *_: Any, completion_id: str, **__: Any) -> ByPrimitives:
        return self.sequences[completion_id]

    def widened(self, logits: Any) -> Any:
        return logits

    def choose(self, _engine: Any, sequences: list[Any], logits: Any, rows: list[int]) -> list[int]:
        return [one.sample(logits[row]) for one, row in zip(sequences, rows, strict=True)]

    def close(self) -> None: ...


class Traces(World):
    row_of = staticmethod(package.row_of)

    def serve(self, trace: dict[str, Any], **how: Any) -> tuple[Vllm, list[Any]]:
        """A server whose model gives the logits of a trace, and the requests for it."""
        width = trace["vocab"]
        config = a_config()
        # The label is the payload's; this model's logits are wider than any.
        config.model_config.dtype, config.model_config.get_vocab_size = "torch.float32", lambda: width
        server = self.server(config=config, **how)
        prompts = {f"chatcmpl-{one['seq']}": one for one in trace["sequences"]}

        def row(req_id: str, tokens: list[int]) -> Any:
            sequence: Any = prompts.get(req_id)
            position = -1 if sequence is None else len(tokens) - len(sequence["prompt"])
            if position < 0:  # not of the trace, or a part of a prefill
                return np.random.default_rng(len(tokens)).normal(size=width).astype(np.float32)
            return self.row_of(trace, sequence["seq"], position)

        server.runner.row = row
        asked = []
        for one in trace["sequences"]:
            expected = trace["expected"][str(one["seq"])]["steps"]
            # A target of zero is none to the door, and changes no token.
            pow_ = payload(**one["payload"], compute_precision=trace["precision"]) | {"target": "ff" * 32}
            pow_["model_identifier"] = trace["model_identifier"]
            args = {"pow": json.dumps(pow_)}
            params = Params(max_tokens=len(expected), extra_args=args, **one["params"])
            asked.append((f"chatcmpl-{one['seq']}", list(one["prompt"]), params))
        return server, asked

    def test_every_trace_by_primitives_behind_the_plugin(self) -> None:
        steps = 0
        for number, trace in enumerate(package.TRACES):
            if not package.has_primitives(trace) or not is_scheduled(trace):
                continue
            how = [{}, {"budget": 90}, {"budget": 300, "capacity": 2000, "is_old": True}][number % 3]
            with self.subTest(trace=trace["name"], **how):
                steps += self.follow(trace, **how)
        self.assertGreater(steps, 0)
        print(f"traces through the plugin's step: {steps} steps")

    def follow(self, trace: dict[str, Any], **how: Any) -> int:
        server, asked = self.serve(trace, **how)
        assert server.miner.engine is not None
        server.miner.engine.close()
        sequences = {f"chatcmpl-{one['seq']}": ByPrimitives(trace, one) for one in trace["sequences"]}
        stand_in: Any = InPlaceOfTheEngine(sequences)
        server.miner.engine = server.miner.backend = stand_in
        server.add("chatcmpl-beside", [1, 2, 3], Params(max_tokens=40))
        requests = [server.add(*one) for one in asked]
        server.run()
        steps = 0
        for request in requests:
            expected = trace["expected"][request.request_id.removeprefix("chatcmpl-")]["steps"]
            self.assertEqual(request.output, [step["token"] for step in expected])
            taken = sequences[request.request_id].steps
            for (digest, evidence, choice), step in zip(taken, expected, strict=True):
                self.assertEqual(digest.hex(), step["digest"])
                self.check(evidence, choice, step)
            steps += len(expected)
        return steps

    def check(self, evidence: tensorpow.Evidence, choice: tensorpow.Choice, step: dict[str, Any]) -> None:
        packed = struct.pack("<70f70I", *evidence.logits, *evidence.ids)
        self.assertEqual(hashlib.sha256(packed).hexdigest(), step["evidence_sha256"])
        self.assertAlmostEqual(choice.upper_edge, f32(step["prob"][1]), delta=1e-6)

    def test_traces_of_an_engines_shape_by_the_engine(self) -> None:
        chosen = [trace for trace in package.TRACES if package.by_engine(trace)]
        self.assertGreater(len(chosen), 0)
        for trace in chosen:
            with self.subTest(trace=trace["name"]):
                server, asked = self.serve(trace)
                # Rounding is the engine's: it gets what the model would give.
                with mock.patch.object(self, "row_of", package.raw_row):
                    requests = [server.add(*one) for one in asked]
                    server.run()
                for request in requests:
                    expected = trace["expected"][request.request_id.removeprefix("chatcmpl-")]["steps"]
                    self.assertEqual(request.output, [step["token"] for step in expected])
                self.assertEqual(
                    server.metric("tensorpow_tokens_total"), sum(len(r.output) for r in requests)
                )


if __name__ == "__main__":
    unittest.main()
