"""The answers of all releases, in a file that is read by people too: one line for each run of equal answers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .seams import Answer, Question, Release

FILE = Path(__file__).with_name("snapshot.json")


def release_of(version: str) -> Release:
    """The numbers of a version: `(0, 10, 1, 1)` of `0.10.1.1.post2`."""
    match = re.match(r"\d+(\.\d+)*", version)
    if match is None:
        raise ValueError(f"{version!r} is no version")
    return tuple(map(int, match[0].split(".")))


@dataclass
class Snapshot:
    """What every release answered."""

    releases: dict[str, str] = field(default_factory=dict)
    """The package that each was read from, in order."""
    answers: dict[str, dict[str, Answer]] = field(default_factory=dict)
    """Question, release, answer."""

    @classmethod
    def read(cls, path: Path = FILE) -> Snapshot:
        """The committed snapshot."""
        stored: dict[str, Any] = json.loads(path.read_text())
        releases: dict[str, str] = stored["releases"]
        names = list(releases)
        answers: dict[str, dict[str, Answer]] = {}
        for question, runs in stored["answers"].items():
            starts = [names.index(run["since"]) for run in runs]
            ends = [*starts[1:], len(names)]
            answers[question] = {
                name: run["is"]
                for run, start, end in zip(runs, starts, ends, strict=True)
                for name in names[start:end]
            }
        return cls(releases, answers)

    def answer(self, question: Question, release: str) -> Answer:
        """Raises `KeyError` for what was not asked of the release."""
        return self.answers[str(question)][release]

    def write(self, path: Path = FILE) -> None:
        """Writes equal answers of releases that follow each other once."""
        names = sorted(self.releases, key=release_of)
        stored: dict[str, list[dict[str, Any]]] = {}
        for question, answers in sorted(self.answers.items()):
            runs = stored.setdefault(question, [])
            for name in names:
                if not runs or runs[-1]["is"] != answers[name]:
                    runs.append({"since": name, "is": answers[name]})
        lines = [
            f"    {json.dumps(question)}: [\n"
            + ",\n".join(f"      {json.dumps(run)}" for run in runs)
            + "\n    ]"
            for question, runs in stored.items()
        ]
        releases = ",\n".join(f"    {json.dumps(n)}: {json.dumps(self.releases[n])}" for n in names)
        body = ",\n".join(lines)
        path.write_text(f'{{\n  "releases": {{\n{releases}\n  }},\n  "answers": {{\n{body}\n  }}\n}}\n')
