"""Whether a server mines: the switch, the versions, the refusals, the hooks, what it knows about
its model, and what it shows.
"""

import importlib
import logging
import os
import subprocess
import sys
import tempfile
import textwrap
import unittest
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import mock

from tensorpow_vllm import api_process, arrivals, exposition, hooks, identity, refusal, settings, v1, v2
from tensorpow_vllm.middleware import PowMiddleware
from tensorpow_vllm.settings import SettingError, Settings
from world import World, a_config, mined_window

HERE = Path(__file__).resolve()
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Switch(unittest.TestCase):
    def test_one_variable_switches_it_on(self) -> None:
        for value, on in [
            ("1", True),
            ("true", True),
            ("True", True),
            ("0", False),
            ("", False),
            ("yes", False),
        ]:
            self.assertIs(settings.enabled({settings.SWITCH: value}), on)
        self.assertFalse(settings.enabled({}))

    def test_settings_and_their_mistakes(self) -> None:
        self.assertEqual(Settings.read({}), Settings())
        read = Settings.read({"TENSORPOW_VLLM_PARK_S": "0.5", "POW_V3_ADMISSION_MODE": " Always "})
        self.assertEqual((read.park_s, read.admission), (0.5, True))
        for name, value in [
            ("TENSORPOW_VLLM_PARK_S", "-1"),
            ("TENSORPOW_VLLM_PARK_S", "nan"),
            ("TENSORPOW_VLLM_STEP_WAIT_S", "soon"),
            ("TENSORPOW_VLLM_MAX_BODY", "0"),
            ("TENSORPOW_VLLM_BACKEND", "abacus"),
        ]:
            with self.subTest(name=name, value=value), self.assertRaisesRegex(SettingError, name):
                Settings.read({name: value})

    def program(self, body: str, **env: str) -> str:
        """What a fresh process prints."""
        paths = [str(HERE.parent), str(HERE.parents[2]), *(one for one in sys.path if one)]
        run = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(body)],
            env={"PATH": os.environ["PATH"], "PYTHONPATH": os.pathsep.join(paths), **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        return run.stdout + run.stderr

    def test_without_the_variable_nothing_is_set(self) -> None:
        body = """
            import os, sys
            before = dict(os.environ), list(sys.meta_path)
            from tensorpow_vllm.plugin import register
            register()
            assert before == (dict(os.environ), list(sys.meta_path))
            ours = "tensorpow", "numpy", "vllm", "torch", "fastapi"
            print(sorted(name for name in sys.modules if name.split(".")[0] in ours))
        """
        self.assertEqual(self.program(body), "[]\n")
        self.assertIn("not to 1", self.program(body, VLLM_ENABLE_POW="yes"))

    def test_with_it_hooks_are_set_and_no_module_of_vllm_is_imported(self) -> None:
        body = """
            import os, sys
            from unittest import mock
            from tensorpow_vllm import hooks, plugin, refusal
            with mock.patch.object(refusal, "vllm_version", lambda: "0.19.1"):
                plugin.register()
                plugin.register()
            print(os.environ["VLLM_USE_V2_MODEL_RUNNER"], len(hooks._finder.hooks), sum(map(len, hooks._finder.hooks.values())))
            print(sorted(name for name in sys.modules if name.split(".")[0] in ("vllm", "torch", "fastapi")))
        """
        self.assertEqual(self.program(body, VLLM_ENABLE_POW="1"), "0 4 4\n[]\n")
        always = {"VLLM_ENABLE_POW": "1", "POW_V3_ADMISSION_MODE": "always", "VLLM_USE_V2_MODEL_RUNNER": "1"}
        self.assertEqual(self.program(body, **always), "1 5 5\n[]\n")

    def test_an_unknown_version_is_refused_aloud_and_by_a_metric(self) -> None:
        body = """
            import logging
            from unittest import mock
            from tensorpow_vllm import exposition, hooks, plugin, refusal
            logging.basicConfig(format="%(message)s")
            with mock.patch.object(refusal, "vllm_version", lambda: "0.99.0"):
                plugin.register()
            print(list(hooks._finder.hooks))
            print(exposition.gather())
        """
        said = self.program(body, VLLM_ENABLE_POW="1")
        self.assertIn("NOT MINING: vLLM 0.99.0 is not supported, this package knows vLLM 0.10.0", said)
        self.assertIn("['fastapi.applications']", said)
        self.assertIn('tensorpow_vllm_refused{reason="version"} 1', said)
        with self.assertRaises(subprocess.CalledProcessError):
            self.program(body, VLLM_ENABLE_POW="1", TENSORPOW_VLLM_STRICT="1")
        tried = self.program(body, VLLM_ENABLE_POW="1", TENSORPOW_VLLM_ANY_VERSION="1")
        self.assertIn(v1.RUNNER_MODULE, tried)

    def test_a_broken_installation_ends_the_start(self) -> None:
        body = """
            import sys
            sys.modules["tensorpow"] = None
            from tensorpow_vllm.plugin import register
            register()
        """
        self.program(body)
        with self.assertRaises(subprocess.CalledProcessError) as caught:
            self.program(body, VLLM_ENABLE_POW="1")
        self.assertIn("import of tensorpow halted", caught.exception.stderr)

    def test_a_setting_that_cannot_be_honoured_ends_the_start(self) -> None:
        body = """
            from unittest import mock
            from tensorpow_vllm import plugin, refusal
            with mock.patch.object(refusal, "vllm_version", lambda: "0.32.0"):
                plugin.register()
        """
        with self.assertRaises(subprocess.CalledProcessError) as caught:
            self.program(body, VLLM_ENABLE_POW="1", TENSORPOW_VLLM_PARK_S="soon")
        self.assertIn("TENSORPOW_VLLM_PARK_S=soon", caught.exception.stderr)


class Versions(unittest.TestCase):
    def test_lines_from_the_first_to_the_last_are_taken(self) -> None:
        for version in (
            "0.10",
            "0.10.0",
            "0.10.0.post2+cpu",
            "0.10.1.1",
            "0.19.0",
            "0.32.0+cpu",
            "0.32.7",
            "v0.16.0",
        ):
            refusal.check_version(version)
        for version in ("0.9.2", "0.34.0", "1.0.0", "0.20.0rc1", "0.32.1.dev5+g1234", "dev", ""):
            with self.subTest(version=version):
                with self.assertRaisesRegex(refusal.Refused, "0.10.0 to 0.33"):
                    refusal.check_version(version)
                refusal.check_version(version, any_version=True)

    def test_what_cannot_be_followed_is_refused_by_name(self) -> None:
        refusal.check_config(a_config())
        refusal.check_config(SimpleNamespace())
        model = SimpleNamespace(logits_processors=["my.Processor"])
        cases: list[tuple[str, str, dict[str, Any]]] = [
            ("speculative_decoding", "ngram", {"speculative_config": SimpleNamespace(method="ngram")}),
            ("pipeline_parallel", "2 stages", {"parallel_config": SimpleNamespace(pipeline_parallel_size=2)}),
            (
                "async_scheduling",
                "--no-async-scheduling",
                {"scheduler_config": SimpleNamespace(async_scheduling=True)},
            ),
            ("logits_processors", "my.Processor", {"model_config": model}),
        ]
        for label, words, changes in cases:
            with self.subTest(label), self.assertRaisesRegex(refusal.Refused, words) as caught:
                refusal.check_config(a_config(**changes))
            self.assertEqual(caught.exception.label, label)
        point = SimpleNamespace(name="shaper")
        with (
            mock.patch("importlib.metadata.entry_points", lambda group: [point]),
            self.assertRaisesRegex(refusal.Refused, "shaper"),
        ):
            refusal.check_config(a_config())

    def test_methods_of_another_shape_are_refused(self) -> None:
        module = ModuleType("other")
        with self.assertRaisesRegex(refusal.Refused, "no GPUModelRunner"):
            v1.install(module)

        class Runner:
            def __init__(self, vllm_config: Any, device: Any) -> None: ...
            def execute_model(self, something: Any) -> None: ...

        class Sampler:
            def forward(self, logits: Any, sampling_metadata: Any) -> None: ...
            def sample(self, logits: Any, sampling_metadata: Any) -> None: ...

        with self.assertRaisesRegex(refusal.Refused, "Runner.execute_model"):
            v1.check(Runner, Sampler)


class Refusals(World):
    def test_a_server_that_is_refused_serves_without_any_hook_at_work(self) -> None:
        config = a_config(speculative_config=SimpleNamespace(method="eagle"))
        with self.assertLogs("vllm.tensorpow", "ERROR") as logs:
            server = self.server(config=config)
        self.assertIn("NOT MINING: speculative decoding (eagle)", logs.output[0])
        self.assertIsNone(vars(server.runner)[v1.LINK])
        self.assertIn('reason="speculative_decoding"', exposition.status.text(None))
        text, stock_text = mined_window(server)
        self.assertEqual(text, stock_text)

    def test_the_other_runner_is_refused_by_name(self) -> None:
        class GPUModelRunner:
            def __init__(self, vllm_config: Any, device: Any) -> None:
                self.is_there = True

        module = ModuleType("v2")
        vars(module)["GPUModelRunner"] = GPUModelRunner
        v2.install(module)
        with self.assertLogs("vllm.tensorpow", "ERROR") as logs:
            self.assertTrue(GPUModelRunner(None, None).is_there)
        self.assertIn("VLLM_USE_V2_MODEL_RUNNER=0", logs.output[0])
        with (
            mock.patch.dict("os.environ", {"TENSORPOW_VLLM_STRICT": "1"}),
            self.assertLogs("vllm.tensorpow", "ERROR"),
            self.assertRaises(refusal.Refused),
        ):
            GPUModelRunner(None, None)


class Hooks(unittest.TestCase):
    def test_a_hook_runs_at_once_or_after_the_import(self) -> None:
        seen: list[str] = []
        hooks.when_imported("json", lambda module: seen.append(module.__name__))
        self.assertEqual(seen, ["json"])
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "hooked_later.py").write_text("there = True\n")
            with mock.patch.object(sys, "path", [folder, *sys.path]):
                for _ in range(2):
                    hooks.when_imported("hooked_later", lambda module: seen.append(str(module.there)))
                self.assertEqual(seen, ["json"])
                module = importlib.import_module("hooked_later")
                # Who asks for the source gets it from the loader that has it.
                assert module.__spec__ is not None
                loader: Any = module.__spec__.loader
                self.assertEqual(loader.get_source("hooked_later"), "there = True\n")
        self.assertEqual(seen, ["json", "True", "True"])

    def test_a_module_that_is_not_there_stays_so(self) -> None:
        hooks.when_imported("no_such_module_at_all", lambda module: self.fail())
        with self.assertRaises(ModuleNotFoundError):
            importlib.import_module("no_such_module_at_all")


class ApiProcess(unittest.TestCase):
    def test_asynchronous_scheduling_is_off_unless_asked_for(self) -> None:
        class EngineArgs:
            def __init__(self, asked: bool | None) -> None:
                self.async_scheduling = asked

            def create_engine_config(self, usage: int = 0) -> tuple[Any, int]:
                return self.async_scheduling, usage

        module = ModuleType("arguments")
        vars(module)["EngineArgs"] = EngineArgs
        api_process.install_arguments(module)
        for asked, got in [(None, False), (False, False), (True, True)]:
            self.assertEqual(EngineArgs(asked).create_engine_config(usage=3), (got, 3))
        api_process.install_arguments(ModuleType("of another shape"))

    def test_every_application_gets_the_middleware(self) -> None:
        class FastAPI:
            def __init__(self, title: str) -> None:
                self.title = title
                self.added: list[Any] = []

            def add_middleware(self, kind: Any) -> None:
                self.added.append(kind)

        module = ModuleType("applications")
        vars(module)["FastAPI"] = FastAPI
        api_process.install_middleware(module)
        self.assertEqual(FastAPI(title="a").added, [PowMiddleware])
        with self.assertLogs("vllm.tensorpow", "WARNING") as logs:
            api_process.install_middleware(ModuleType("of another shape"))
        self.assertIn("--middleware tensorpow_vllm.middleware.PowMiddleware", logs.output[0])


class Knowledge(unittest.TestCase):
    def test_the_identifier_is_known_of_models_by_commit(self) -> None:
        cases = [
            ("Qwen/Qwen3-8B", COMMIT, f"Qwen/Qwen3-8B@{COMMIT}"),
            ("Qwen/Qwen3-8B", "main", None),
            ("Qwen/Qwen3-8B", None, None),
            (f"/cache/hub/models--Qwen--Qwen3-8B/snapshots/{COMMIT}", None, f"Qwen/Qwen3-8B@{COMMIT}"),
            ("/models/mine", COMMIT, None),
            ("", None, None),
        ]
        for model, revision, found in cases:
            config = SimpleNamespace(model=model, revision=revision)
            self.assertEqual(identity.model_identifier(config), found)

    def test_the_precision_is_that_of_the_logits(self) -> None:
        for dtype, label in [("torch.bfloat16", "bf16"), ("torch.float16", "fp16"), ("torch.float32", None)]:
            self.assertEqual(identity.compute_precision(SimpleNamespace(dtype=dtype)), label)

    def test_the_completion_id_is_the_one_the_client_sees(self) -> None:
        cases = [
            ("chatcmpl-abc-1a2b3c4d", True, "chatcmpl-abc"),
            ("chatcmpl-abc", True, "chatcmpl-abc"),
            ("chatcmpl-abc-deadbeef", False, "chatcmpl-abc-deadbeef"),
            ("cmpl-x-0-1a2b3c4d", True, "cmpl-x"),
            ("cmpl-x-1-1a2b3c4d", True, "cmpl-x-1"),
            ("cmpl-x-0", False, "cmpl-x"),
            ("cmpl-x-10", False, "cmpl-x-10"),
            ("chatcmpl-x-0", False, "chatcmpl-x-0"),
            ("resp_abc-0f0f0f0f", True, "resp_abc"),
        ]
        for req_id, suffix, seen in cases:
            self.assertEqual(arrivals.completion_id(req_id, random_suffix=suffix), seen)


class Metrics(World):
    def test_the_counters_of_all_processes_come_together(self) -> None:
        server = self.server()
        mined_window(server)
        with (
            tempfile.TemporaryDirectory() as folder,
            mock.patch.dict("os.environ", {exposition.RUN_DIR: folder}),
        ):
            exposition.serve(server.miner)
            text = exposition.gather()
            self.assertIn("\ntensorpow_tokens_total 10\n", text)
            self.assertIn("tensorpow_vllm_requests_lost_total 0", text)
            # A second process, and one that died without tidying up.
            Path(folder, "1.sock").symlink_to(Path(folder, f"{os.getpid()}.sock"))
            Path(folder, "2.sock").write_text("")
            text = exposition.gather()
            for process in (1, os.getpid()):
                self.assertIn(f'tensorpow_tokens_total{{process="{process}"}} 10\n', text)
                self.assertIn(f'tensorpow_not_mined_total{{reason="seed",process="{process}"}} 0\n', text)
            self.assertEqual(text.count("# TYPE tensorpow_tokens_total counter"), 1)
            server.miner.close()
            self.assertEqual(exposition.gather().count("tensorpow_tokens_total"), 0)

    def test_the_first_process_makes_the_folder_and_the_others_inherit_it(self) -> None:
        env: dict[str, str] = {}
        exposition.prepare(env)
        folder = env[exposition.RUN_DIR]
        self.assertEqual(Path(folder).stat().st_mode & 0o777, 0o700)
        exposition.prepare(env)
        self.assertEqual(env[exposition.RUN_DIR], folder)


if __name__ == "__main__":
    logging.disable(logging.INFO)
    unittest.main()
