"""What a person sees: notes and progress on standard error; standard output carries the result alone."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path

NINJA_STEP = re.compile(r"^\[(\d+)/(\d+)\] (.*)")
QUIET_STEP = 0.05  # of all steps: between two lines without a terminal, before the first estimate
LINES_OF_A_FAILURE = 40
LIVE_WIDTH = 100


class BuildError(Exception):
    """Something the person who started the build can read and act on."""


def note(message: str) -> None:
    print(message, file=sys.stderr, flush=True)


def clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes}:{rest:02}"


class Progress:
    """Turns ninja's counter into one live line, or into a line per 5 % where there is no terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._live = sys.stderr.isatty()
        self._start = time.monotonic()
        self._shown = -1.0

    def line(self, text: str) -> bool:
        """Takes one line of ninja's output; false if it is not a step."""
        step = NINJA_STEP.match(text)
        if not step:
            return False
        done, total = int(step[1]), int(step[2])
        share = done / total
        elapsed = time.monotonic() - self._start
        remaining = elapsed / done * (total - done) if done else 0.0
        status = f"{self._label}: {done}/{total} ({share:.0%}), {clock(elapsed)} gone"
        if QUIET_STEP <= share < 1:  # before, the estimate would say nothing
            status += f", about {clock(remaining)} to go"
        if self._live:
            name = step[3].rsplit("/", 1)[-1]
            print(f"\r\033[K{f'{status}  {name}':.{LIVE_WIDTH}}", end="", file=sys.stderr, flush=True)
        elif share - self._shown >= QUIET_STEP or done == total:
            note(status)
            self._shown = share
        return True

    def end(self) -> None:
        if self._live:
            print("\r\033[K", end="", file=sys.stderr)
        note(f"{self._label}: {clock(time.monotonic() - self._start)}")


def run(
    command: Sequence[str | Path],
    *,
    what: str,
    log: Path,
    env: Mapping[str, str] | None = None,
    progress: Progress | None = None,
) -> None:
    """Runs a command with its output in `log`; on failure the end of the output becomes the error."""
    text = [str(part) for part in command]
    tail: deque[str] = deque(maxlen=LINES_OF_A_FAILURE)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        print(f"$ {' '.join(text)}", file=file, flush=True)
        try:
            process = subprocess.Popen(
                text, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace", env=env
            )
        except OSError as error:
            raise BuildError(f"{what}: cannot run {text[0]}: {error}") from error
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                file.write(line)
                if not (progress and progress.line(line)):
                    tail.append(line)
    if progress:
        progress.end()
    if process.returncode != 0:
        raise BuildError(f"{what} failed ({process.returncode}):\n{''.join(tail)}(all of it: {log})")
