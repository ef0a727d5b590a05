"""Empty stand-ins for the NVIDIA libraries that PyTorch's CUDA build is linked against. For tests only.

The package index has PyTorch for Linux in one form, the CUDA one. On a machine without a GPU none of the
NVIDIA libraries is ever called, but the dynamic linker wants each of them, with each symbol in its version:
about 3 GB that do nothing. Here they become libraries of a few kilobytes whose functions return 0, beside
PyTorch's own, where its search path looks last. Never ship them: they turn any use of a GPU into silence.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from llama_build.console import BuildError, note

from . import elf

# Libraries that every Linux system with glibc has, and PyTorch expects of it.
_SYSTEM = ("ld-linux", "libc.", "libdl.", "libgcc_s.", "libm.", "libpthread.", "librt.", "libstdc++.")
# How NVIDIA's names begin, which tells them from those that the interpreter or the C++ library has.
_VENDOR = ("__cuda", "cu", "nccl", "nv")
# What does not return 0: there is no device, and a message that is asked for is a text.
_BODIES = {
    "cudaGetDeviceCount": "int cudaGetDeviceCount(int *count) { if (count) *count = 0; return 100; }",
    "cudaGetErrorString": 'const char *cudaGetErrorString(int code) { (void)code; return "a stub"; }',
    "cudaGetErrorName": 'const char *cudaGetErrorName(int code) { (void)code; return "a stub"; }',
}


@dataclass
class Stub:
    """One library to be made."""

    versions: dict[str, set[str]] = field(default_factory=dict)
    """Names by version; those under "" have none."""


def plan(folder: Path) -> dict[str, Stub]:
    """The libraries that those in `folder` need and that nobody has, by file name."""
    libraries = {path.name: elf.read(path) for path in sorted(folder.glob("*.so*")) if path.is_file()}
    stubs: dict[str, Stub] = {}
    for library in libraries.values():
        for name in library.needed:
            if name not in libraries and not name.startswith(_SYSTEM):
                stubs.setdefault(name, Stub())
    defined = set().union(*(library.defined for library in libraries.values()))
    for library in libraries.values():
        absent = [name for name in library.needed if name in stubs]
        for name in absent:
            for version, symbols in library.versioned.get(name, {}).items():
                stubs[name].versions.setdefault(version, set()).update(symbols)
        # a symbol without a version says nothing of its library, and any in reach will do
        if absent:
            open_ends = {name for name in library.missing - defined if name.startswith(_VENDOR)}
            stubs[absent[0]].versions.setdefault("", set()).update(open_ends)
    return stubs


def source_of(stub: Stub) -> str:
    """The C text of a stub."""
    names = sorted(set().union(*stub.versions.values()))
    default = (f"int {name}(void) {{ return 0; }}" for name in names if name not in _BODIES)
    return "\n".join([*(_BODIES[name] for name in names if name in _BODIES), *default, ""])


def script_of(stub: Stub) -> str:
    """The linker's version script: which name belongs to which version."""
    nodes = []
    for version, names in sorted(stub.versions.items()):
        if version and names:
            nodes.append(f"{version} {{ global: {' '.join(f'{name};' for name in sorted(names))} }};")
    return "\n".join([*nodes, ""])


def make(folder: Path) -> int:
    """Compiles all stubs that the libraries in `folder` need into it; returns how many."""
    stubs = plan(folder)
    compiler = os.environ.get("CC") or "gcc"
    for name, stub in sorted(stubs.items()):
        _compile(compiler, folder / name, stub)
    if stubs:
        note(f"made {len(stubs)} stub libraries in place of NVIDIA's (for tests only)")
    return len(stubs)


def _compile(compiler: str, target: Path, stub: Stub) -> None:
    with tempfile.TemporaryDirectory() as work:
        source, script = Path(work) / "stub.c", Path(work) / "stub.map"
        source.write_text(source_of(stub))
        script.write_text(script_of(stub))
        command = [compiler, "-shared", "-fPIC", "-O1", "-fno-builtin", "-w", "-nostdlib", str(source)]
        command += [f"-Wl,-soname,{target.name}", "-o", str(target)]
        if script.read_text().strip():
            command.append(f"-Wl,--version-script,{script}")
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as error:
            raise BuildError(f"no C compiler ({compiler}): {error}; install gcc or set CC") from error
        if done.returncode:
            raise BuildError(f"the stub of {target.name} does not compile:\n{done.stderr[-2000:]}")
