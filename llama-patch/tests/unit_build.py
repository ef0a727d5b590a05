"""The build tool without a compiler: patching in place, copying a tree, checksums, progress, its errors."""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import unittest
from pathlib import Path
from unittest import mock

PATCH_DIR = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(PATCH_DIR))

from llama_build import console, toolchain
from llama_build.cache import cache_root, digest_of, locked
from llama_build.pins import LLAMA_CPP_FOLDER, LLAMA_CPP_SDIST, Package
from llama_build.server import STOCK, Options, Variant, Workspace, patch_series, stub_variant
from llama_build.source import TOUCHED, SourceTree

SERVER_FILE = "tools/server/server-context.cpp"
PATCH = """\
--- a/tools/server/server-context.cpp
+++ b/tools/server/server-context.cpp
@@ -1,3 +1,3 @@
 one
-two
+TWO
 three
"""


class InFolder(unittest.TestCase):
    """A test with a folder and a cache of its own."""

    def setUp(self) -> None:
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        self.enterContext(mock.patch.dict(os.environ, {"TENSORPOW_CACHE": str(self.folder / "cache")}))
        self.notes = self.enterContext(contextlib.redirect_stderr(io.StringIO()))


class PinnedSeries(unittest.TestCase):
    def test_series_applies_to_the_pinned_tree_without_fuzz_or_offset(self) -> None:
        archive = toolchain.fetch(LLAMA_CPP_SDIST)
        touched = {name for patch in patch_series() for name in TOUCHED.findall(patch.read_text())}
        with tempfile.TemporaryDirectory() as folder:
            with tarfile.open(archive) as tar:
                tar.extractall(
                    folder, [m for m in tar if m.name in {f"{LLAMA_CPP_FOLDER}/{n}" for n in touched}]
                )
            for patch in patch_series():
                command = ["patch", "-p1", "--fuzz=0", "--dry-run", "-i", str(patch)]
                tree = Path(folder) / LLAMA_CPP_FOLDER
                done = subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stdout)
                self.assertNotRegex(done.stdout, "offset|fuzz")
                subprocess.run(
                    [part for part in command if part != "--dry-run"],
                    cwd=tree,
                    check=True,
                    stdout=subprocess.DEVNULL,
                )

    def test_every_patch_says_why(self) -> None:
        self.assertGreaterEqual(len(patch_series()), 1)
        for patch in patch_series():
            head = patch.read_text().split("\ndiff --git", 1)[0]
            self.assertRegex(head, r"(?m)^Subject: \[PATCH\] \w+: ")
            self.assertTrue(head.split("\n\n", 1)[1].strip(), f"{patch.name} has no message")


class Sources(InFolder):
    def setUp(self) -> None:
        super().setUp()
        self.origin = self.folder / "origin"
        (self.origin / SERVER_FILE).parent.mkdir(parents=True)
        (self.origin / SERVER_FILE).write_text("one\ntwo\nthree\n")
        (self.origin / "other").write_text("untouched\n")
        (self.origin / ".git").mkdir()
        (self.origin / ".git" / "HEAD").write_text("ref")
        self.series = [self.folder / "0001.patch"]
        self.series[0].write_text(PATCH)
        self.tree = SourceTree(self.folder / "work")

    def text(self, name: str = SERVER_FILE) -> str:
        return (self.tree.root / name).read_text()

    def written(self, name: str = SERVER_FILE) -> int:
        return (self.tree.root / name).stat().st_mtime_ns

    def test_patch_and_back(self) -> None:
        self.tree.copy_folder(self.origin)
        self.tree.patch(self.series)
        self.assertEqual(self.text(), "one\nTWO\nthree\n")
        self.tree.patch([])
        self.assertEqual(self.text(), "one\ntwo\nthree\n")
        self.assertFalse((self.tree.root / ".git").exists())

    def test_the_same_series_again_writes_nothing(self) -> None:
        self.tree.copy_folder(self.origin)
        self.tree.patch(self.series)
        before = self.written()
        self.tree.copy_folder(self.origin)
        self.tree.patch(self.series)
        self.assertEqual(self.written(), before)

    def test_changed_series_starts_from_stock(self) -> None:
        self.tree.copy_folder(self.origin)
        self.tree.patch(self.series)
        self.series[0].write_text(PATCH.replace("TWO", "2"))
        self.tree.patch(self.series)
        self.assertEqual(self.text(), "one\n2\nthree\n")

    def test_changed_folder_is_followed_under_the_patch(self) -> None:
        first = self.tree.copy_folder(self.origin)
        self.tree.patch(self.series)
        (self.origin / SERVER_FILE).write_text("one\ntwo\nthree\nfour\n")
        (self.origin / "other").unlink()
        self.assertNotEqual(self.tree.copy_folder(self.origin), first)
        self.tree.patch(self.series)
        self.assertEqual(self.text(), "one\nTWO\nthree\nfour\n")
        self.assertFalse((self.tree.root / "other").exists())

    def test_git_stands_in_for_patch(self) -> None:
        self.tree.copy_folder(self.origin)
        without_patch = mock.patch.object(
            shutil, "which", lambda name: None if name == "patch" else f"/usr/bin/{name}"
        )
        subprocess.run(["git", "init", "-q", str(self.folder)], check=True)  # a repository around the cache
        with without_patch:
            self.tree.patch(self.series)
        self.assertEqual(self.text(), "one\nTWO\nthree\n")

    def test_tree_that_does_not_fit_is_named(self) -> None:
        self.tree.copy_folder(self.origin)
        self.series[0].write_text(PATCH.replace("-two", "-zwei"))
        with self.assertRaisesRegex(console.BuildError, r"applying 0001.patch failed"):
            self.tree.patch(self.series)
        self.assertEqual(self.text(), "one\ntwo\nthree\n")
        self.series[0].write_text(PATCH.replace("server-context", "server-gone"))
        with self.assertRaisesRegex(console.BuildError, "server-gone.cpp, which this llama.cpp tree lacks"):
            self.tree.patch(self.series)

    def test_folder_that_is_no_llama_cpp_is_named(self) -> None:
        with self.assertRaisesRegex(console.BuildError, "is not a llama.cpp tree"):
            self.tree.copy_folder(self.folder / "nowhere")


class Fetching(InFolder):
    def test_wrong_checksum_is_refused_and_not_kept(self) -> None:
        package = Package("made-up==1", "made_up.whl", "00" * 32, "1 B")

        def pip(command: list[object], **_: object) -> None:
            if "download" in command:
                arriving = Path(str(command[command.index("--dest") + 1]))
                arriving.mkdir()
                (arriving / package.file_name).write_bytes(b"x")

        with (
            mock.patch.object(toolchain, "run", pip),
            mock.patch.object(toolchain, "private_environment", lambda: self.folder),
            self.assertRaisesRegex(console.BuildError, f"not the pinned {package.sha256}"),
        ):
            toolchain.fetch(package)
        self.assertFalse((cache_root() / "downloads" / package.file_name).exists())


class Building(InFolder):
    def test_a_second_run_waits_for_the_first(self) -> None:
        program = (
            "import sys; from pathlib import Path; from llama_build.cache import locked\n"
            "with locked(Path(sys.argv[1])): print('in')"
        )
        with locked(self.folder):
            command = [sys.executable, "-c", program, str(self.folder)]
            other = subprocess.Popen(command, cwd=PATCH_DIR, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            assert other.stderr is not None
            self.assertIn(b"waiting for it", other.stderr.readline())
            self.assertIsNone(other.poll())
        output, _ = other.communicate(timeout=20)
        self.assertEqual(output, b"in\n")

    def test_where_a_part_ends_counts(self) -> None:
        self.assertNotEqual(digest_of(["ab", "c"]), digest_of(["a", "bc"]))

    def test_definitions(self) -> None:
        cases: dict[str, tuple[Options, dict[str, str]]] = {
            "plain": (Options(1), {"GGML_NATIVE": "ON"}),
            "portable": (Options(1, portable=True), {"GGML_NATIVE": "OFF"}),
            "cuda": (Options(1, cuda=""), {"GGML_NATIVE": "OFF", "GGML_CUDA": "ON"}),
            "cuda 90": (Options(1, cuda="90"), {"CMAKE_CUDA_ARCHITECTURES": "90"}),
            "metal": (Options(1, metal=True), {"GGML_METAL": "ON", "GGML_METAL_EMBED_LIBRARY": "ON"}),
            "own": (Options(1, definitions={"GGML_NATIVE": "X"}), {"GGML_NATIVE": "X"}),
        }
        for name, (options, expected) in cases.items():
            with self.subTest(name):
                self.assertEqual(options.cmake() | expected, options.cmake())

    def test_stock_comes_first_and_nothing_is_built_twice(self) -> None:
        origin = self.folder / "origin"
        (origin / SERVER_FILE).parent.mkdir(parents=True)
        (origin / SERVER_FILE).write_text("one")
        self.enterContext(mock.patch.dict(os.environ, {"LLAMA_CPP_DIR": str(origin)}))
        built: list[str] = []

        def compile_nothing(space: Workspace, variant: Variant, stamp: str, _: object) -> None:
            built.append(variant.binary)
            binary = space.binary(variant)
            binary.parent.mkdir(parents=True, exist_ok=True)
            binary.touch()
            space._stamp(variant).write_text(stamp)

        library = self.folder / "libtensorpow.a"
        library.write_bytes(b"1")
        linked = Variant("llama-server", patched=True, library=library)
        with mock.patch.object(Workspace, "_compile", compile_nothing):
            space = Workspace(Options(1))
            for variant in (stub_variant(), stub_variant(), STOCK, linked, linked):
                self.assertEqual(space.build(variant).name, variant.binary)
            self.assertEqual(built, ["llama-server-stock", "llama-server-stub", "llama-server"])
            library.write_bytes(b"2")
            space.build(linked)
            self.assertEqual(built[3:], ["llama-server"])
            (origin / SERVER_FILE).write_text("more")
            space.build(stub_variant())
            self.assertEqual(built[4:], ["llama-server-stock", "llama-server-stub"])

    def test_progress_without_a_terminal_is_a_line_per_five_percent(self) -> None:
        progress = console.Progress("thing")
        for step in range(1, 201):
            self.assertTrue(progress.line(f"[{step}/200] Building x.o\n"))
        self.assertFalse(progress.line("warning: something\n"))
        lines = self.notes.getvalue().splitlines()
        self.assertLessEqual(len(lines), 22)
        self.assertTrue(lines[-1].startswith("thing: 200/200 (100%)"))
        self.assertRegex(lines[10], r"about \d+:\d\d to go")

    def test_failure_shows_the_end_of_the_output_and_the_log(self) -> None:
        log = self.folder / "log"
        with self.assertRaises(console.BuildError) as caught:
            console.run(["sh", "-c", "seq 1000; exit 3"], what="counting", log=log)
        text = str(caught.exception)
        self.assertRegex(text, re.compile(r"counting failed \(3\):.*\n1000\n.*log\)", re.DOTALL))
        self.assertLess(len(text.splitlines()), 45)
        self.assertIn("\n1\n2\n", log.read_text())
        with self.assertRaisesRegex(console.BuildError, "cannot run /nowhere"):
            console.run(["/nowhere"], what="nothing", log=log)

    def test_wrong_arguments_are_named(self) -> None:
        cases = {
            ("--jobs", "0"): "'0' is not a number of jobs",
            ("-D", "GGML"): "'GGML' is not NAME=VALUE",
            ("--stock", "--stub"): "not allowed with",
        }
        for arguments, message in cases.items():
            with self.subTest(arguments):
                command = [sys.executable, str(PATCH_DIR / "build"), *arguments]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 2)
                self.assertIn(message, done.stderr)
        for tool in ("build", "model"):
            with self.subTest(tool, what="--print before there is anything"):
                command = [sys.executable, str(PATCH_DIR / tool), "--print"]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                self.assertEqual((done.returncode, done.stdout), (1, ""))
                self.assertRegex(done.stderr, f"^error: .* does not exist; run llama-patch/{tool} first\n$")
        env = {**os.environ, "TENSORPOW_LIB": "/nowhere.a"}
        command = [sys.executable, str(PATCH_DIR / "build")]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=env)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, "error: TENSORPOW_LIB=/nowhere.a is not a file\n")


if __name__ == "__main__":
    unittest.main()
