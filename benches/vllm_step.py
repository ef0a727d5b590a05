"""The mined step against stock top-k sampling, in the process of a real vLLM: its own `Sampler`
and the plugin's hooks on it, on synthetic logits, interleaved in one run.

    PYTHONPATH=DIR vllm-patch/environment/... python benches/vllm_step.py [--device cuda]

Prints medians in microseconds: the stock sampler, the sampler with every row mined, the plugin's
own part of that, and the difference as a share of a forward pass if one is given.
"""

import argparse
import dataclasses
import json
import statistics
import time
from importlib import import_module
from types import SimpleNamespace
from typing import Any

import tensorpow
from tensorpow_vllm import v1
from tensorpow_vllm.backends import backend_for
from tensorpow_vllm.miner import Miner
from tensorpow_vllm.settings import Settings

VOCABS = (49_152, 151_936)
BATCHES = (1, 8, 64)
PREFIX = b"\x03\0\0\0" + b"\x11" * 32 + b"\x22" * 32 + b"\0\0\0\0" + b"\xff\xff\x7f\x20"
PAYLOAD = {
    "block_hash": "11" * 32,
    "vdf": "22" * 100,
    "tick": 77,
    "target": "00" * 31 + "01",
    "header_prefix": PREFIX.hex(),
    "request_id": 5,
    "difficulty": 1_000_000,
    "model_identifier": "bench@" + "ab" * 20,
    "compute_precision": "bf16",
}


def metadata(torch: Any, batch: int, vocab: int, device: Any) -> Any:
    """What vLLM makes of `batch` requests with temperature 1 and top-k 50, in this release."""
    kind: Any = import_module("vllm.v1.sample.metadata").SamplingMetadata
    processors: Any = import_module("vllm.v1.sample.logits_processor")
    values = {
        "temperature": torch.ones(batch, device=device),
        "all_greedy": False,
        "all_random": True,
        "top_k": torch.full((batch,), 50, dtype=torch.int32, device=device),
        "generators": {},
        "no_penalties": True,
        "output_token_ids": [[] for _ in range(batch)],
        "bad_words_token_ids": {},
        "frequency_penalties": torch.zeros(batch, device=device),
        "presence_penalties": torch.zeros(batch, device=device),
        "repetition_penalties": torch.ones(batch, device=device),
        "logitsprocs": (getattr(processors, "LogitsProcessors", None) or processors.LogitsProcessorManager)(),
    }
    fields = {field.name: values.get(field.name) for field in dataclasses.fields(kind)}
    return kind(**fields)


def decided(step: int, batch: int) -> Any:
    """What a scheduler says of `batch` requests with prompts of three tokens."""
    params = SimpleNamespace(
        extra_args={"pow": PAYLOAD},
        temperature=1.0,
        top_k=50,
        top_p=1.0,
        repetition_penalty=1.0,
        presence_penalty=0.0,
        frequency_penalty=0.0,
        seed=None,
    )
    ids = [f"chatcmpl-{at}" for at in range(batch)]
    new = [
        SimpleNamespace(
            req_id=one, prompt_token_ids=[1, 2, at], sampling_params=params, num_computed_tokens=0
        )
        for at, one in enumerate(ids)
    ]
    first = step == 0
    cached = SimpleNamespace(
        req_ids=[] if first else ids,
        num_computed_tokens=[] if first else [2 + step] * batch,
        num_output_tokens=[] if first else [step] * batch,
    )
    return SimpleNamespace(
        scheduled_new_reqs=new if first else [],
        scheduled_cached_reqs=cached,
        num_scheduled_tokens=dict.fromkeys(ids, 3 if first else 1),
        total_num_scheduled_tokens=batch,
        finished_req_ids=set(),
    )


class Case:
    """A batch on one device, sampled by turns in both ways."""

    def __init__(self, torch: Any, sampler: Any, batch: int, vocab: int, device: Any, dtype: Any) -> None:
        self.torch, self.device, self.batch = torch, device, batch
        self.stock = sampler()
        mined: Any = type("Mined", (sampler,), {})
        v1.wrap_sampler(mined)
        self.mined = mined()
        self.engine = tensorpow.Engine({"POW_EGRESS_MODE": "broker"}, engine="bench")
        self.miner = Miner(
            engine=self.engine,
            backend=backend_for(Settings.read().backend, device),
            settings=Settings(),
            vocab=vocab,
        )
        batch_of_runner = SimpleNamespace(req_ids=[f"chatcmpl-{at}" for at in range(batch)])
        self.link = v1.Link(SimpleNamespace(input_batch=batch_of_runner), self.miner)
        vars(self.mined)[v1.LINK] = self.link
        self.metadata = metadata(torch, batch, vocab, device)
        generator = torch.Generator().manual_seed(7)
        rows = torch.randn((batch, vocab), generator=generator) * 3
        self.logits = rows.to(torch.bfloat16).to(dtype).to(device)
        self.step = 0

    def time(self, sampler: Any) -> float:
        """One step with logits of its own, as a forward pass leaves them."""
        logits = self.logits.clone()
        self._wait()
        began = time.perf_counter()
        if sampler is self.mined:
            self.link.begin(decided(self.step, self.batch))
            self.step += 1
        sampler.forward(logits, self.metadata).sampled_token_ids.tolist()
        if sampler is self.mined:
            self.link.end(None)
        self._wait()
        return (time.perf_counter() - began) * 1e6

    def _wait(self) -> None:
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()

    def close(self) -> None:
        assert self.miner.failures == 0
        assert self.miner.tracker.lost == 0
        self.miner.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="bfloat16", help="type of the logits")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch: Any = import_module("torch")
    if options.threads:
        torch.set_num_threads(options.threads)
    sampler: Any = import_module("vllm.v1.sample.sampler").Sampler
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    print(f"{device}, {dtype}, {torch.get_num_threads()} threads; medians of {options.steps} steps in µs")
    print(f"{'vocabulary':>10} {'batch':>6} {'stock':>9} {'mined':>9} {'mined/stock':>12}")
    results = []
    with torch.inference_mode():
        for vocab in VOCABS:
            for batch in BATCHES:
                case = Case(torch, sampler, batch, vocab, device, dtype)
                times: dict[str, list[float]] = {"stock": [], "mined": []}
                for turn in range(options.steps + 5):
                    for name, of in (("stock", case.stock), ("mined", case.mined)):
                        spent = case.time(of)
                        if turn >= 5:
                            times[name].append(spent)
                case.close()
                stock, mined = statistics.median(times["stock"]), statistics.median(times["mined"])
                results.append({"vocab": vocab, "batch": batch, "stock_us": stock, "mined_us": mined})
                print(f"{vocab:>10} {batch:>6} {stock:>9.0f} {mined:>9.0f} {mined / stock:>12.3f}")
    if options.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
