"""`tensorpow-vllm doctor`: what would happen if vLLM started here with this environment, and
whether a proof made right now verifies.
"""

import importlib
import json
import os
import platform
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from tensorpow_vllm import __version__, identity, refusal, settings

VOCAB = 32_000
MODEL = "doctor@" + "0" * 40


@dataclass
class Report:
    """Lines, each with a name, a value and whether it is as it should be."""

    lines: list[tuple[str, str, bool]] = field(default_factory=list)

    def say(self, name: str, value: str, ok: bool = True) -> None:
        self.lines.append((name, value, ok))

    @property
    def ok(self) -> bool:
        return all(ok for _, _, ok in self.lines)

    def text(self) -> str:
        """For people."""
        lines = [f"{name:<12} {value}{'' if ok else '   <- PROBLEM'}" for name, value, ok in self.lines]
        end = "OK: this vLLM would mine." if self.ok else "NOT OK: see the lines marked above."
        return "\n".join([*lines, end])

    def json(self) -> str:
        """For programs."""
        checks = [{"name": name, "value": value, "ok": ok} for name, value, ok in self.lines]
        return json.dumps({"ok": self.ok, "checks": checks}, indent=1)


def examine(model: str | None = None, revision: str | None = None) -> Report:
    """Looks at everything; what is wrong is a line of the report, never an exception."""
    report = Report()
    _package(report)
    version = _vllm(report)
    if version is not None:
        _seam(report)
    config = _model(report, model, revision)
    _destinations(report)
    _proof(report, config)
    return report


def _package(report: Report) -> None:
    python = f"Python {platform.python_version()}"
    report.say("package", f"tensorpow-vllm {__version__}, {python}")
    switched = settings.enabled()
    report.say("switch", f"{settings.SWITCH}=1" if switched else f"off: set {settings.SWITCH}=1 to mine")
    try:
        settings.Settings.read()
    except settings.SettingError as why:
        report.say("settings", str(why), ok=False)


def _vllm(report: Report) -> str | None:
    try:
        version = refusal.vllm_version()
    except ImportError:
        report.say("vLLM", f"not installed here; {refusal.supported()}", ok=False)
        return None
    try:
        any_version = os.environ.get(settings.ANY_VERSION, "") in settings.TRUE
        refusal.check_version(version, any_version=any_version)
        number = ".".join(map(str, refusal.release(version) or ()))
        how = (
            "a server of it has mined"
            if number in refusal.RAN
            else "its seam is known, no server of it has run"
        )
        report.say("vLLM", f"{version}: {how}")
    except refusal.Refused as why:
        report.say("vLLM", str(why), ok=False)
    return version


def _seam(report: Report) -> None:
    from tensorpow_vllm import parking, v1

    try:
        runner: Any = importlib.import_module(v1.RUNNER_MODULE)
        v1.check(runner.GPUModelRunner, runner.Sampler)
        scheduler: Any = importlib.import_module(parking.SCHEDULER_MODULE)
        parking.check(scheduler.Scheduler)
        report.say("adapter", "v1: runner, sampler and scheduler are as expected")
    except (ImportError, AttributeError, refusal.Refused, RuntimeError, OSError) as why:
        report.say("adapter", f"v1: {why}", ok=False)
    chosen = os.environ.get("VLLM_USE_V2_MODEL_RUNNER", "0")
    if chosen not in ("0", ""):
        words = f"VLLM_USE_V2_MODEL_RUNNER={chosen}: model runner V2 is not supported yet"
        report.say("runner", words, ok=False)


def _model(report: Report, model: str | None, revision: str | None) -> Any:
    """The identity that proofs would name, and the width of the model's logits if known."""
    found = _config(model)
    dtype = found.get("dtype") or found.get("torch_dtype")
    config = SimpleNamespace(model=model or "", revision=revision, dtype=f"torch.{dtype}")
    name = os.environ.get("TENSORPOW_MODEL_IDENTIFIER") or identity.model_identifier(config)
    label = os.environ.get("TENSORPOW_COMPUTE_PRECISION") or identity.compute_precision(config)
    report.say("model", name or "not known: payloads have to name it, or TENSORPOW_MODEL_IDENTIFIER")
    report.say("precision", label or "not known before the model is: that of its logits, or the payload's")
    vocab = found.get("vocab_size")
    return SimpleNamespace(name=name, label=label, vocab=vocab if isinstance(vocab, int) else VOCAB)


def _config(model: str | None) -> dict[str, Any]:
    try:
        config = json.loads((Path(model or "") / "config.json").read_text())
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def _destinations(report: Report) -> None:
    """The engine's own settings: it is started for a moment, which opens no socket."""
    import tensorpow

    try:
        tensorpow.Engine(engine="doctor").close()
    except tensorpow.SettingsError as why:
        report.say("proofs", str(why), ok=False)
        return
    mode = os.environ.get("POW_EGRESS_MODE") or "local_miner"
    host, port = ("127.0.0.1", "7002") if mode == "broker" else ("localhost", "7000")
    host, port = os.environ.get("ZMQ_PUSH_HOST", host), os.environ.get("ZMQ_PUSH_PORT", port)
    version = os.environ.get("POW_PROOF_VERSION") or "each payload's"
    admission = os.environ.get(settings.ADMISSION_MODE, "").strip().lower() or "off"
    report.say("proofs", f"{mode}, to {host}:{port}; version: {version}; admission: {admission}")


def _proof(report: Report, config: Any) -> None:
    from tensorpow_vllm import rehearsal
    from tensorpow_vllm.backends import backend_for

    try:
        torch: Any = importlib.import_module("torch")
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine() + " CPU"
        report.say("device", name)
        backend = backend_for(settings.Settings.read().backend, device)
        report.say("back end", backend.name)
        label = config.label if config.label in ("bf16", "fp16", "fp8") else "bf16"
        done = rehearsal.rehearse(
            backend, device, vocab=config.vocab, model=config.name or MODEL, precision=label
        )
    except Exception as why:  # noqa: BLE001 - a report, whatever is wrong
        report.say("proof", f"{type(why).__name__}: {why}", ok=False)
        return
    verdict, microseconds = done.verdict, done.step_s * 1e6
    value = f"{verdict.verdict}, {done.proof.commitment().hex()[:16]}…, {microseconds:.0f} µs a step"
    if not verdict:
        value += f": {verdict.check} {verdict.reason}"
    report.say("proof", value, ok=bool(verdict))
