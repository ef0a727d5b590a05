"""Every release that the plugin supports has what it relies on. Seconds, no network, no vLLM, no PyTorch."""

from __future__ import annotations

import ast
import dataclasses
import sys
import tempfile
import unittest
from pathlib import Path

PATCH_DIR = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(PATCH_DIR))

from tensorpow_vllm import refusal

from contract.reading import Source
from contract.seams import CONTRACT, Need, Question, fields
from contract.snapshot import Snapshot, release_of


class Contract(unittest.TestCase):
    """The committed answers of all releases."""

    def setUp(self) -> None:
        self.snapshot = Snapshot.read()

    def supported(self) -> list[str]:
        found = []
        for release in self.snapshot.releases:
            try:
                refusal.check_version(release)
            except refusal.Refused:
                continue
            found.append(release)
        return found

    def test_every_release_from_the_first_supported_one_was_read(self) -> None:
        releases = [release_of(name) for name in self.snapshot.releases]
        self.assertEqual(releases, sorted(releases))
        self.assertEqual(releases[0], refusal.FIRST)
        self.assertGreaterEqual(releases[-1][:2], refusal.LAST)

    def test_what_a_server_ran_on_is_supported(self) -> None:
        self.assertLessEqual(set(refusal.RAN), set(self.supported()))

    def test_supported_releases_have_all_that_is_relied_on(self) -> None:
        for release in self.supported():
            for need in CONTRACT:
                if need.since <= release_of(release) < need.until:
                    answer = self.snapshot.answer(need.question, release)
                    with self.subTest(release=release, adapter=need.adapter, question=str(need.question)):
                        self.assertTrue(need.is_met_by(answer), f"wanted {need.wanted}, found {answer}")

    def test_every_sampling_field_of_a_supported_release_was_looked_at(self) -> None:
        """An unknown one keeps requests unmined, but only where it is not at its default."""
        known = _strings_of(PATCH_DIR / "tensorpow_vllm" / "arrivals.py", {"HARMLESS", "SHAPING"})
        for release in self.supported():
            found = self.snapshot.answer(fields("vllm.sampling_params", "SamplingParams"), release)
            assert isinstance(found, list)
            with self.subTest(release=release):
                self.assertEqual({str(name) for name in found} - known, set())


class Needs(unittest.TestCase):
    """What an answer has to be."""

    def test_a_change_of_the_seam_is_no_answer_that_will_do(self) -> None:
        cases: list[tuple[str, tuple[str, ...], object, bool]] = [
            ("parameters", ("logits",), ["logits", "metadata"], True),
            ("parameters", ("logits",), ["metadata", "logits"], False),
            ("parameters", (), None, False),
            ("fields", ("req_id",), ["prompt", "req_id"], True),
            ("fields", ("req_id",), ["request_id"], False),
            ("calls", ("logits",), [["logits"], ["logits"]], True),
            ("calls", ("logits",), [["logits"], ["*"]], False),
            ("calls", ("logits",), [], False),
            ("global", ("a.B",), "a.B", True),
            ("global", ("a.B",), "b.B", False),
            ("global", (), None, False),
            ("attribute", (), False, False),
            ("text", (), None, False),
        ]
        for kind, wanted, answer, met in cases:
            with self.subTest(kind=kind, answer=answer):
                need = Need("test", Question(kind, "m", "f"), wanted)
                self.assertEqual(need.is_met_by(answer), met)  # type: ignore[arg-type]


RELEASE = {
    "vllm/plugins/__init__.py": "GROUP = 'vllm.general_plugins'\nif True:\n    def load(a, *, b=1): ...\n",
    "vllm/base.py": "class Base:\n    def __init__(self):\n        self.running = []\n    @property\n    def size(self): ...\n",
    "vllm/runner.py": (
        "from .base import Base as Parent\nfrom vllm.plugins import load\n"
        "class Runner(Parent):\n    req_id: str\n    count: int = 0\n"
        "    def step(self, output, wait=False):\n"
        "        self.sampler(logits=1, metadata=2)\n        self.sampler(1, **{})\n"
    ),
}
ANSWERS = {
    Question("text", "vllm.plugins", callee="vllm.general_plugins"): True,
    Question("text", "vllm.plugins", callee="vllm.other_plugins"): False,
    Question("text", "vllm.nowhere", callee="x"): None,
    Question("parameters", "vllm.plugins", "load"): ["a", "b"],
    Question("parameters", "vllm.runner", "Runner.step"): ["output", "wait"],
    Question("parameters", "vllm.runner", "Runner.stop"): None,
    Question("fields", "vllm.runner", "Runner"): ["req_id", "count"],
    Question("fields", "vllm.runner", "Walker"): None,
    Question("attribute", "vllm.runner", "Runner.running"): True,
    Question("attribute", "vllm.runner", "Runner.size"): True,
    Question("attribute", "vllm.runner", "Runner.waiting"): False,
    Question("attribute", "vllm.runner", "Walker.running"): None,
    Question("sets", "vllm.base", "Base.__init__", "running"): True,
    Question("sets", "vllm.base", "Base.__init__", "waiting"): False,
    Question("sets", "vllm.base", "Base.start", "running"): None,
    Question("global", "vllm.runner", "Parent"): "vllm.base.Base",
    Question("global", "vllm.runner", "load"): "vllm.plugins.load",
    Question("global", "vllm.runner", "Runner"): "here",
    Question("global", "vllm.runner", "nothing"): None,
    Question("calls", "vllm.runner", "Runner.step", "self.sampler"): [["logits", "metadata"], ["*", "**"]],
    Question("calls", "vllm.runner", "Runner.stop", "self.sampler"): None,
}


class Reading(unittest.TestCase):
    """Questions, asked of a release of a few lines."""

    def test_answers(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            for path, text in RELEASE.items():
                file = Path(name) / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
            source = Source(Path(name))
            for question, answer in ANSWERS.items():
                with self.subTest(str(question)):
                    self.assertEqual(source.answer(question), answer)

    def test_a_snapshot_is_read_as_it_was_written(self) -> None:
        question = Question("fields", "m", "C")
        written = Snapshot(
            {"0.10.0": "a", "0.9.0": "b", "0.11.0": "c"},
            {str(question): {"0.10.0": ["x"], "0.9.0": ["x"], "0.11.0": None}},
        )
        with tempfile.TemporaryDirectory() as name:
            file = Path(name) / "snapshot.json"
            written.write(file)
            read = Snapshot.read(file)
        self.assertEqual(list(read.releases), ["0.9.0", "0.10.0", "0.11.0"])
        self.assertEqual(dataclasses.asdict(read), dataclasses.asdict(written))


def _strings_of(path: Path, names: set[str]) -> set[str]:
    """The words in the string constants that a module assigns to these names."""
    found: set[str] = set()
    for statement in ast.parse(path.read_text()).body:
        targets = statement.targets if isinstance(statement, ast.Assign) else []
        if any(isinstance(target, ast.Name) and target.id in names for target in targets):
            constants = (node for node in ast.walk(statement) if isinstance(node, ast.Constant))
            found.update(word for one in constants for word in str(one.value).split())
    return found


if __name__ == "__main__":
    unittest.main()
