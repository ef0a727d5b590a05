"""The stub's header declares what the generated header declares: constants, structs and functions."""

from __future__ import annotations

import os
import subprocess
import tempfile
import unittest
from pathlib import Path

PATCH_DIR = Path(__file__).resolve().parent.parent
GENERATED = PATCH_DIR.parent / "ffi-c" / "include"

CONSTANTS = [
    *(f"TENSORPOW_STATUS_{name}" for name in ("OK", "NOT_MINED", "INVALID_ARGUMENT", "CONFIG", "INTERNAL")),
    *(f"TENSORPOW_END_REASON_{name}" for name in ("FINISHED", "CANCELLED", "ERROR", "CONTINUITY_LOST")),
    *(
        f"TENSORPOW_EXCLUDE_{name}"
        for name in [
            "GRAMMAR",
            "SEVERAL_CHOICES",
            "PENALTY",
            "LOGIT_BIAS",
            "SAMPLER_OPTION",
            "SEED",
            "REASONING_BUDGET",
            "ADAPTER",
            "MULTIMODAL",
            "CONTEXT_SHIFT",
            "NOT_COMPLETION",
            "BACKEND",
        ]
    ),
]
FIELDS = {
    "tensorpow_engine_args": ["size", "engine", "model_identifier", "compute_precision", "max_sequences"],
    "tensorpow_begin_args": [
        "size",
        "pow_json",
        "pow_json_len",
        "completion_id",
        "temperature",
        "top_k",
        "top_p",
        "repetition_penalty",
        "exclusions",
        "slot_id",
        "n_vocab",
        "prompt",
        "n_prompt",
    ],
}


def declarations(include: Path) -> str:
    """What a program compiled against the header says of it."""
    lines = [f'printf("{name} %lld\\n", (long long) {name});' for name in CONSTANTS]
    for struct, fields in FIELDS.items():
        lines.append(f'printf("{struct} %zu\\n", sizeof({struct}));')
        for name in fields:
            place = f"offsetof({struct}, {name}), sizeof((({struct} *) 0)->{name})"
            lines.append(f'printf("{struct}.{name} %zu %zu\\n", {place});')
    program = '#include "tensorpow.h"\n#include <cstdio>\nint main() {\n' + "\n".join(lines) + "\n}\n"
    with tempfile.TemporaryDirectory() as folder:
        source, binary = Path(folder) / "print.cpp", Path(folder) / "print"
        source.write_text(program)
        compiler = os.environ.get("CXX", "c++")
        subprocess.run(
            [compiler, "-std=c++17", "-I", str(include), str(source), "-o", str(binary)], check=True
        )
        return subprocess.run([str(binary)], check=True, capture_output=True, text=True).stdout


def compiles(include: Path, source: Path) -> str:
    """The compiler's complaints; a function declared otherwise than it is defined is one."""
    compiler = os.environ.get("CXX", "c++")
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "-I", str(include)]
    return subprocess.run([compiler, *flags, str(source)], check=False, capture_output=True, text=True).stderr


class Header(unittest.TestCase):
    def test_stub_and_recorder_compile_without_a_warning(self) -> None:
        for include in filter(Path.exists, (PATCH_DIR / "stub", GENERATED)):
            for source in (
                PATCH_DIR / "stub" / "tensorpow_stub.cpp",
                *(PATCH_DIR / "tests" / "recorder").glob("*.cpp"),
            ):
                with self.subTest(include.parent.name, source=source.name):
                    self.assertEqual(compiles(include, source), "")

    @unittest.skipUnless((GENERATED / "tensorpow.h").exists(), "ffi-c has not generated its header")
    def test_stub_header_equals_the_generated_one(self) -> None:
        self.assertEqual(declarations(PATCH_DIR / "stub"), declarations(GENERATED))


if __name__ == "__main__":
    unittest.main()
