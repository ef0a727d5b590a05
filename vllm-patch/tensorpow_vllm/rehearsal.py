"""A window mined here and now: synthetic logits through the plugin's own hooks, on a stand-in for
vLLM's runner and sampler, against an easy target. Nothing leaves the machine.
"""

import tempfile
import time
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import tensorpow
from tensorpow import targets, vdf

from tensorpow_vllm import v1
from tensorpow_vllm.miner import WINDOW, Miner
from tensorpow_vllm.settings import Settings

EASIEST = 0x207FFFFF
"""Compact target that every second window meets."""
TICKS = 1000
ATTEMPTS = 40
# A port that nobody listens at; the proof is read from its file.
NOWHERE = {"POW_EGRESS_MODE": "local_miner", "ZMQ_PUSH_HOST": "127.0.0.1", "ZMQ_PUSH_PORT": "1"}


@dataclass(frozen=True)
class Rehearsed:
    """A proof, and what a node would say of it."""

    proof: tensorpow.Proof
    verdict: tensorpow.Verdict
    step_s: float
    """Mean time of a mined step."""


class _Runner:
    """As much of a runner as the hooks look at."""

    def __init__(self, vllm_config: Any, device: Any) -> None:
        self.input_batch = SimpleNamespace(req_ids=["chatcmpl-doctor"])
        self.sampler: Any = vllm_config
        self.logits: Any = None

    def execute_model(self, scheduler_output: Any) -> Any:
        return self.sampler.forward(self.logits, SimpleNamespace(max_num_logprobs=None))


class _Sampler:
    """A sampler that would choose the first token."""

    def forward(self, logits: Any, sampling_metadata: Any) -> Any:
        return self.sample(logits, sampling_metadata)[0]

    def sample(self, logits: Any, sampling_metadata: Any) -> tuple[Any, Any]:
        return [0] * len(logits), None


def rehearse(backend: Any, device: Any, *, vocab: int, model: str, precision: str) -> Rehearsed:
    """Mines windows until one meets the target. Raises `RuntimeError` when none comes."""
    blob = vdf.prove(b"\x11" * 32, TICKS)
    for attempt in range(ATTEMPTS):
        with tempfile.TemporaryDirectory() as folder:
            settings = {**NOWHERE, "PROOF_SAVE_DIR": folder}
            with tensorpow.Engine(
                settings, engine="doctor", model_identifier=model, compute_precision=precision
            ) as engine:
                miner = Miner(engine=engine, backend=backend, settings=Settings(), vocab=vocab)
                step_s = _window(miner, device, vocab, _payload(blob, attempt))
                _await(engine)
            for file in Path(folder).rglob("*.bin"):
                proof = tensorpow.Proof.from_bytes(file.read_bytes())
                return Rehearsed(proof, proof.verify("regtest"), step_s)
    raise RuntimeError(f"none of {ATTEMPTS} windows left a proof that meets the easiest target")


def _payload(blob: bytes, attempt: int) -> dict[str, Any]:
    parent = b"\x11" * 32
    prefix = targets.header_prefix(4, parent, b"\x22" * 32, 1_700_000_000 + attempt, EASIEST)
    return {
        "block_hash": parent.hex(),
        "vdf": blob.hex(),
        "tick": TICKS,
        "target": f"{targets.compact_to_target(EASIEST):064x}",
        "header_prefix": prefix.hex(),
        "request_id": 1,
        "difficulty": 1_000_000,
        "proof_version": 2,
    }


def _window(miner: Miner, device: Any, vocab: int, pow_: dict[str, Any]) -> float:
    """One window; returns the mean time of its steps."""
    torch: Any = import_module("torch")
    numpy: Any = import_module("numpy")
    module = ModuleType("rehearsal")
    runner_class = type("GPUModelRunner", (_Runner,), {"__init__": _Runner.__init__})
    sampler_class = type("Sampler", (_Sampler,), {})
    v1.check(runner_class, sampler_class)
    vars(module).update(GPUModelRunner=runner_class, Sampler=sampler_class)
    v1.wrap_sampler(sampler_class)
    runner: Any = runner_class(sampler_class(), device)
    link = v1.Link(runner, miner)
    vars(runner.sampler)[v1.LINK] = link
    random = numpy.random.default_rng(7)
    tokens: list[int] = []
    spent = 0.0
    for step in range(WINDOW):
        row = random.normal(0.0, 3.0, (1, vocab)).astype(numpy.float32)
        runner.logits = torch.from_numpy(row).to(device)
        began = time.perf_counter()
        link.begin(_decided(step, pow_))
        tokens += [int(one) for one in runner.execute_model(None)]
        link.end(None)
        spent += time.perf_counter() - began
    miner.tracker.drop("chatcmpl-doctor", "finished")
    if miner.failures or miner.tracker.lost or len(set(tokens)) < 2:
        raise RuntimeError("the plugin's step failed; the log says why")
    return spent / WINDOW


def _decided(step: int, pow_: dict[str, Any]) -> Any:
    """What a scheduler says: a prompt of three tokens, then a token a step."""
    params = SimpleNamespace(
        extra_args={"pow": pow_},
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        seed=None,
    )
    new = SimpleNamespace(
        req_id="chatcmpl-doctor", prompt_token_ids=[1, 2, 3], sampling_params=params, num_computed_tokens=0
    )
    is_first = step == 0
    cached = SimpleNamespace(
        req_ids=[] if is_first else [new.req_id],
        num_computed_tokens=[] if is_first else [2 + step],
        num_output_tokens=[] if is_first else [step],
    )
    count = 3 if is_first else 1
    return SimpleNamespace(
        scheduled_new_reqs=[new] if is_first else [],
        scheduled_cached_reqs=cached,
        num_scheduled_tokens={new.req_id: count},
        total_num_scheduled_tokens=count,
        finished_req_ids=set(),
    )


def _await(engine: tensorpow.Engine) -> None:
    """Until the window is judged, and its file written if it is a solution."""
    until = time.monotonic() + 30.0
    while time.monotonic() < until:
        text = engine.metrics()
        if 'tensorpow_windows_total{outcome="nothing"} 1' in text or "tensorpow_proofs_saved_total 1" in text:
            return
        if 'outcome="self_check_failed"} 1' in text:
            raise RuntimeError("the window failed its self-check; the log says which check")
        time.sleep(0.005)
