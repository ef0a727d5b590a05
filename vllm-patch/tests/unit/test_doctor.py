"""The doctor: a proof made right now verifies, and what is wrong is said by name."""

import contextlib
import io
import json
import tempfile
import unittest
from pathlib import Path
from typing import Any
from unittest import mock

import fake_torch
from tensorpow_vllm import __main__, doctor, refusal, rehearsal

torch = fake_torch.install()


class Doctor(unittest.TestCase):
    def setUp(self) -> None:
        for patch in (
            mock.patch.dict("os.environ", {"VLLM_ENABLE_POW": "1"}),
            mock.patch.object(refusal, "vllm_version", lambda: "0.32.0"),
            mock.patch.object(doctor, "_seam", lambda report: report.say("adapter", "v1")),
            mock.patch.object(doctor, "VOCAB", 512),
        ):
            patch.start()
            self.addCleanup(patch.stop)

    def run_it(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            code = __main__.main(["doctor", "--json", *arguments])
        report = json.loads(printed.getvalue())
        return code, {one["name"]: one for one in report["checks"]} | {"ok": report["ok"]}

    def test_a_proof_made_now_is_accepted(self) -> None:
        code, report = self.run_it()
        self.assertEqual((code, report["ok"]), (0, True))
        self.assertIn("Quick_OK", report["proof"]["value"])
        self.assertEqual(report["back end"]["value"], "host")

    def test_the_models_own_folder_is_read(self) -> None:
        commit = "0123456789abcdef0123456789abcdef01234567"
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "models--Owner--name" / "snapshots" / commit
            model.mkdir(parents=True)
            (model / "config.json").write_text('{"torch_dtype": "float16", "vocab_size": 300}')
            code, report = self.run_it("--model", str(model))
        self.assertEqual(code, 0)
        self.assertEqual(report["model"]["value"], f"Owner/name@{commit}")
        self.assertEqual(report["precision"]["value"], "fp16")

    def test_what_is_wrong_is_a_line_and_an_exit_code(self) -> None:
        cases: list[tuple[str, str, dict[str, str]]] = [
            ("settings", "TENSORPOW_VLLM_BACKEND", {"TENSORPOW_VLLM_BACKEND": "abacus"}),
            ("proofs", "POW_EGRESS_MODE", {"POW_EGRESS_MODE": "nonsense"}),
        ]
        for name, words, env in cases:
            with self.subTest(name), mock.patch.dict("os.environ", env):
                code, report = self.run_it()
                self.assertEqual((code, report[name]["ok"]), (1, False))
                self.assertIn(words, report[name]["value"])
        with mock.patch.object(refusal, "vllm_version", lambda: "0.99.0"):
            code, report = self.run_it()
            self.assertEqual((code, report["vLLM"]["ok"]), (1, False))
            self.assertIn("0.10.0 to", report["vLLM"]["value"])
        with mock.patch.object(rehearsal, "rehearse", side_effect=RuntimeError("no proof")):
            code, report = self.run_it()
            self.assertEqual((code, report["proof"]["ok"]), (1, False))

    def test_off_is_said_and_is_no_fault(self) -> None:
        with mock.patch.dict("os.environ", {"VLLM_ENABLE_POW": "0"}):
            code, report = self.run_it()
        self.assertEqual(code, 0)
        self.assertIn("set VLLM_ENABLE_POW=1", report["switch"]["value"])

    def test_people_read_lines(self) -> None:
        report = doctor.Report()
        report.say("one", "fine")
        self.assertIn("OK: this vLLM would mine", report.text())
        report.say("two", "broken", ok=False)
        self.assertIn("broken   <- PROBLEM", report.text())
        self.assertIn("NOT OK", report.text())


class Rehearsal(unittest.TestCase):
    def test_a_back_end_that_lies_does_not_pass(self) -> None:
        class Lies:
            name = "lies"

            def widened(self, logits: Any) -> Any:
                return logits

            def choose(self, engine: Any, sequences: list[Any], logits: Any, rows: list[int]) -> list[Any]:
                raise MemoryError("no device")

        with (
            self.assertLogs("vllm.tensorpow", "ERROR"),
            self.assertRaisesRegex(RuntimeError, "step failed"),
        ):
            rehearsal.rehearse(Lies(), torch.device("cpu"), vocab=256, model="a@b", precision="bf16")


if __name__ == "__main__":
    unittest.main()
