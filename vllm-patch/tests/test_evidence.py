"""Evidence taken with torch and with the Triton kernel, against the Rust core: the leading entries,
ids and probes to the bit, the statistics within their tolerance.

The kernel runs on a GPU where there is one, and in Triton's interpreter with TRITON_INTERPRET=1.
"""

import importlib.util
import os
import subprocess
import sys
import textwrap
import unittest
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any, Literal
from unittest import mock

import numpy as np
import tensorpow
import torch  # type: ignore[import-not-found]
from tensorpow_vllm.backends import DeviceBackend, HostBackend, backend_for, evidence_torch

HAS_TRITON = importlib.util.find_spec("triton") is not None
INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
RUNS_TRITON = HAS_TRITON and (torch.cuda.is_available() or INTERPRETED)
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
PAYLOAD = {
    "block_hash": "11" * 32,
    "vdf": "22" * 100,
    "tick": 77,
    "target": "00" * 31 + "01",
    "header_prefix": (b"\x03\0\0\0" + b"\x11" * 32 + b"\x22" * 32 + b"\0\0\0\0" + b"\xff\xff\x7f\x20").hex(),
    "request_id": 5,
    "difficulty": 1_000_000,
    "model_identifier": "test@" + "ab" * 20,
}


def takes() -> Iterator[tuple[str, Any]]:
    yield "torch", evidence_torch.take
    if RUNS_TRITON:
        from tensorpow_vllm.backends import evidence_triton

        yield "triton", evidence_triton.take


def rows(width: int, dtype: Any) -> Iterator[tuple[str, Any]]:
    """Rows of all kinds."""
    generator = torch.Generator().manual_seed(width)
    normal = torch.randn(width, generator=generator) * 3
    ties = torch.randint(-16, 16, (width,), generator=generator) / 4
    masked = normal.clone()
    masked[torch.randperm(width, generator=generator)[: width // 3]] = -torch.inf
    few = torch.full((width,), -torch.inf)
    few[5:60:3] = torch.arange(19.0)
    zeros = torch.where(torch.arange(width) % 3 == 0, -0.0, 0.0)
    rising = torch.arange(width, dtype=torch.float32) / width
    for name, row in [
        ("normal", normal),
        ("large", normal * 1000),
        ("tiny", normal * 1e-30 if dtype is torch.bfloat16 else normal * 1e-5),
        ("ties", ties),
        ("all equal", torch.full((width,), 2.5)),
        ("negative", -normal.abs() - 1),
        ("masked", masked),
        ("few", few),
        ("zeros of both signs", zeros),
        ("rising", rising),
        ("falling", -rising),
    ]:
        yield name, row.to(dtype)


class Evidence(unittest.TestCase):
    def check(self, row: Any, taken: Any, temperature: float) -> None:
        label: Literal["bf16", "fp16"] = "bf16" if row.dtype is torch.bfloat16 else "fp16"
        wanted = tensorpow.Evidence.of(row.float().numpy(), label, temperature)
        taken = taken.cpu().contiguous().numpy()
        floats = taken.view(np.float32)
        self.assertEqual(taken[70:140].tolist(), wanted.ids)
        bits = np.array(wanted.logits, np.float32).view(np.int32)
        self.assertEqual(taken[:70].tolist(), bits.tolist())
        for at, (ours, theirs) in enumerate(zip(floats[140:146], wanted.stats, strict=True)):
            self.assertAlmostEqual(ours, theirs, delta=5e-6 + 2e-6 * abs(theirs), msg=f"statistic {at}")
        tensorpow.Evidence(floats[:70], taken[70:140], floats[140:146]).check(len(row), label)

    def test_it_is_that_of_the_core(self) -> None:
        for how, take in takes():
            for dtype in (torch.bfloat16, torch.float16):
                for width in (128, 500, 1999, 2000, 2001, 4096, 10_007):
                    kinds = list(rows(width, dtype))
                    logits = torch.stack([row for _, row in kinds]).to(DEVICE)
                    temperatures = [(1.0, 0.7, 1.9)[at % 3] for at in range(len(kinds))]
                    order = list(reversed(range(len(kinds))))
                    taken = take(logits, order, [temperatures[at] for at in order])
                    for at, place in enumerate(order):
                        with self.subTest(how=how, dtype=dtype, width=width, row=kinds[place][0]):
                            self.check(kinds[place][1], taken[at], temperatures[place])

    def test_a_wide_vocabulary(self) -> None:
        for how, take in takes():
            row = (torch.randn(151_936, generator=torch.Generator().manual_seed(1)) * 2.5).to(torch.bfloat16)
            with self.subTest(how):
                self.check(row, take(row[None].to(DEVICE), [0], [1.0])[0], 1.0)

    def test_rows_with_padding_are_read_in_place(self) -> None:
        wide = torch.randn((3, 1040), generator=torch.Generator().manual_seed(2)).to(torch.bfloat16)
        for how, take in takes():
            taken = take(wide.to(DEVICE)[:, :1000], [2, 0], [1.0, 1.0])
            with self.subTest(how):
                self.check(wide[2, :1000], taken[0], 1.0)
                self.check(wide[0, :1000], taken[1], 1.0)

    @unittest.skipUnless(HAS_TRITON, "Triton is not installed")
    def test_the_kernel_compiles_for_gpus_that_are_not_here(self) -> None:
        body = """
            from triton.backends.compiler import GPUTarget
            from triton.compiler import ASTSource, compile
            from tensorpow_vllm.backends import evidence_triton as kernel
            kinds = ["*i16", "i64", "*i32", "*fp32", "*i32", "i32"] + ["constexpr"] * 3
            signature = dict(zip(kernel.evidence_of_row.arg_names, kinds, strict=True))
            for capability in (80, 90):
                for half in (False, True):
                    constants = {"HALF": half, "OUT": kernel.WIDTH + kernel.SCRATCH, "BLOCK": kernel.BLOCK}
                    source = ASTSource(kernel.evidence_of_row, signature, constants)
                    options = {"num_warps": kernel.WARPS}
                    made = compile(source, target=GPUTarget("cuda", capability, 32), options=options)
                    print(capability, half, len(made.asm["cubin"]) > 0)
        """
        env = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
        command = [sys.executable, "-c", textwrap.dedent(body)]
        run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        self.assertEqual(run.stdout.split().count("True"), 4 + 2, run.stderr[-2000:])

    def test_a_row_that_cannot_be_mined_is_marked(self) -> None:
        good = torch.randn(1000, generator=torch.Generator().manual_seed(3)).to(torch.bfloat16)
        spoilt = []
        for value in (torch.nan, torch.inf, -torch.nan):
            row = good.clone()
            row[777] = value
            spoilt.append(row)
        spoilt.append(torch.full((1000,), -torch.inf, dtype=torch.bfloat16))
        for how, take in takes():
            logits = torch.stack([good, *spoilt]).to(DEVICE)
            firsts = take(logits, list(range(5)), [1.0] * 5).cpu()[:, 0].contiguous().view(torch.float32)
            with self.subTest(how):
                self.assertEqual(torch.isnan(firsts).tolist(), [False, True, True, True, True])


class Choices(unittest.TestCase):
    def test_tokens_are_those_of_the_host(self) -> None:
        generator = torch.Generator().manual_seed(4)
        types = (torch.bfloat16, torch.float16, torch.float32)
        for how, take in takes():
            for dtype in types:
                with (
                    self.subTest(how=how, dtype=dtype),
                    tensorpow.Engine({"POW_EGRESS_MODE": "broker"}) as engine,
                ):
                    labels = ["bf16", "fp16", "bf16", "fp16"]
                    if dtype is torch.bfloat16:
                        labels += ["fp8"]

                    def begin(
                        labels: list[str] = labels, engine: tensorpow.Engine = engine
                    ) -> list[tensorpow.Sequence]:
                        return [
                            engine.begin({**PAYLOAD, "compute_precision": label}, [at + 1], 300)
                            for at, label in enumerate(labels)
                        ]

                    by_device, by_host = begin(), begin()
                    device, host = DeviceBackend(how, take), HostBackend()
                    for _ in range(10):
                        logits = (torch.randn((8, 300), generator=generator) * 3).to(dtype)
                        chosen = torch.randperm(8, generator=generator)[: len(labels)].tolist()
                        ours = device.choose(engine, by_device, device.widened(logits.to(DEVICE)), chosen)
                        theirs = host.choose(engine, by_host, host.widened(logits), chosen)
                        self.assertEqual(ours, theirs)

    def test_a_row_that_cannot_be_mined_stops_its_sequence_alone(self) -> None:
        for how, take in takes():
            with self.subTest(how), tensorpow.Engine({"POW_EGRESS_MODE": "broker"}) as engine:
                pow_ = {**PAYLOAD, "compute_precision": "bf16"}
                sequences = [engine.begin(pow_, [at + 1], 300) for at in range(2)]
                logits = torch.randn((2, 300)).to(torch.bfloat16)
                logits[0, 7] = torch.nan
                stopped, token = DeviceBackend(how, take).choose(engine, sequences, logits.to(DEVICE), [0, 1])
                self.assertIsInstance(stopped, tensorpow.Stopped)
                self.assertIsInstance(token, int)

    def test_the_back_end_fits_the_device(self) -> None:
        cuda, cpu = SimpleNamespace(type="cuda"), SimpleNamespace(type="cpu")
        self.assertEqual(backend_for("auto", cpu).name, "host")
        self.assertEqual(backend_for("torch", cpu).name, "torch")
        with mock.patch("importlib.util.find_spec", lambda name: None):
            self.assertEqual(backend_for("auto", cuda).name, "torch")
        if HAS_TRITON:
            self.assertEqual(backend_for("auto", cuda).name, "triton")


if __name__ == "__main__":
    if not RUNS_TRITON:
        print("SKIPPED: the Triton kernel (no GPU, and no TRITON_INTERPRET=1 with Triton installed)")
    unittest.main()
