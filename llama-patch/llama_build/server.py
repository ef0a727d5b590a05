"""Configures and compiles llama-server: stock first, then the patched variants in the same build folder."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from .cache import cache_root, digest_of, locked, put_whole
from .console import Progress, note, run
from .pins import GENERATED_HEADER, GLUE, LLAMA_BUILD_NUMBER, PATCH_DIR, PATCHES, STUB
from .source import SourceTree
from .toolchain import Tools, find_tools

# a static server without tests, examples, UI download and TLS: nothing is fetched at build time
BASE_DEFINITIONS = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    "LLAMA_USE_PREBUILT_UI": "OFF",
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_BUILD_NUMBER": str(LLAMA_BUILD_NUMBER),
    "LLAMA_BUILD_COMMIT": f"b{LLAMA_BUILD_NUMBER}",
}
TARGET = "llama-server"


@dataclass(frozen=True)
class Options:
    """How the server is compiled, alike for all its variants."""

    jobs: int
    portable: bool = False
    cuda: str | None = None  # architectures, "" = cmake's choice, None = no CUDA
    metal: bool = False
    definitions: dict[str, str] = field(default_factory=dict)

    def cmake(self) -> dict[str, str]:
        result = {
            **BASE_DEFINITIONS,
            "GGML_NATIVE": "OFF" if self.portable or self.cuda is not None else "ON",
        }
        if self.cuda is not None:
            result |= {"GGML_CUDA": "ON", "GGML_CUDA_NCCL": "OFF"}
            if self.cuda:
                result["CMAKE_CUDA_ARCHITECTURES"] = self.cuda
        if self.metal:
            result |= {"GGML_METAL": "ON", "GGML_METAL_EMBED_LIBRARY": "ON"}
        return {**result, **self.definitions}


def header_folder() -> Path:
    given = os.environ.get("TENSORPOW_INCLUDE")
    if given:
        return Path(given).resolve()
    return GENERATED_HEADER if (GENERATED_HEADER / "tensorpow.h").exists() else STUB


@dataclass(frozen=True)
class Variant:
    """One of the servers that come out of a build folder."""

    binary: str
    patched: bool
    library: Path | None = None  # None in a patched variant: the stub
    # the same for the stub, or going from one variant to another would compile the whole server anew
    include: Path = field(default_factory=header_folder)

    def definitions(self) -> dict[str, str]:
        if not self.patched:
            return {}
        return {
            "TENSORPOW_DIR": str(PATCH_DIR),
            "TENSORPOW_LIB": str(self.library or ""),
            "TENSORPOW_INCLUDE": str(self.include),
        }

    def inputs(self) -> list[bytes]:
        """The content of everything of ours that goes into the binary."""
        if not self.patched:
            return []
        files = [*patch_series(), *sorted(GLUE.iterdir()), self.include / "tensorpow.h"]
        files.append(self.library or STUB / "tensorpow_stub.cpp")
        return [path.read_bytes() for path in files]


STOCK = Variant("llama-server-stock", patched=False)


def stub_variant() -> Variant:
    """The server that mines nothing."""
    return Variant("llama-server-stub", patched=True)


def library_variant(library: Path, *, given: bool) -> Variant:
    """The server with this repository's library, or with one from elsewhere under a name of its own."""
    name = f"llama-server-{digest_of([str(library)])[:8]}" if given else "llama-server"
    return Variant(name, patched=True, library=library)


def patch_series() -> list[Path]:
    return sorted(PATCHES.glob("*.patch"))


class Workspace:
    """The part of the cache that belongs to one source and one set of compile options."""

    def __init__(self, options: Options) -> None:
        self._options = options
        given = os.environ.get("LLAMA_CPP_DIR")
        self._origin = Path(given).resolve() if given else None
        source_name = (
            f"folder-{digest_of([str(self._origin)])[:12]}" if self._origin else f"b{LLAMA_BUILD_NUMBER}"
        )
        flags = digest_of(f"{key}={value}" for key, value in sorted(options.cmake().items()))
        self._folder = cache_root() / "llama.cpp" / f"{source_name}-{flags[:12]}"
        self._source = SourceTree(self._folder)
        self._build = self._folder / "build"
        self._log = self._folder / "log"

    def build(self, variant: Variant) -> Path:
        """Builds what is missing for `variant`; the stock server is always built, and first."""
        with locked(self._folder):
            source = self._source.copy_folder(self._origin) if self._origin else self._source.unpack_sdist()
            tools: Tools | None = None
            for wanted in (STOCK, variant) if variant.patched else (STOCK,):
                stamp = digest_of([source, *wanted.inputs()])
                if not self._up_to_date(wanted, stamp):
                    tools = tools or find_tools()
                    self._compile(wanted, stamp, tools)
        return self.binary(variant)

    def binary(self, variant: Variant) -> Path:
        """Where the server of this variant is, or would be."""
        return self._folder / "bin" / variant.binary

    def _stamp(self, variant: Variant) -> Path:
        return self._folder / "bin" / f"{variant.binary}.stamp"

    def _up_to_date(self, variant: Variant, stamp: str) -> bool:
        kept = self._stamp(variant)
        return self.binary(variant).exists() and kept.exists() and kept.read_text() == stamp

    def _compile(self, variant: Variant, stamp: str, tools: Tools) -> None:
        note(f"building {variant.binary} in {self._folder}")
        self._stamp(variant).unlink(missing_ok=True)
        self._source.patch(patch_series() if variant.patched else [])
        definitions = {**self._options.cmake(), **variant.definitions()}
        command: list[str | Path] = [tools.cmake, "-S", self._source.root, "-B", self._build, "-G", "Ninja"]
        command += [f"-DCMAKE_MAKE_PROGRAM={tools.ninja}"]
        command += [f"-D{key}={value}" for key, value in definitions.items()]
        run(command, what="configuring llama.cpp", log=self._log)
        run(
            [tools.ninja, "-C", self._build, "-j", str(self._options.jobs), TARGET],
            what=f"compiling {variant.binary}",
            log=self._log,
            env={**os.environ, "NINJA_STATUS": "[%f/%t] "},
            progress=Progress(variant.binary),
        )
        put_whole(self._build / "bin" / TARGET, self.binary(variant))
        self._stamp(variant).write_text(stamp)
