"""`ifmdm doctor`: what this machine and installation can do, one line per check, with a fix per fault."""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

ASSETS = Path(__file__).parent.parent / "assets"
_INSTALL = "pip install 'ifmdm[render]'"


@dataclass(frozen=True)
class Check:
    """One finding."""

    name: str
    status: Literal["ok", "warn", "fail"]
    found: str
    fix: str = ""


@app.command()
def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="print the findings as JSON")] = False,
) -> int:
    """Check this machine and this installation. Exit code 0 when nothing failed, 3 otherwise."""
    findings = run_checks()
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings]))
    else:
        width = max(len(finding.name) for finding in findings)
        for finding in findings:
            fix = f"  -> {finding.fix}" if finding.fix else ""
            print(f"{finding.status:<4}  {finding.name:<{width}}  {finding.found}{fix}")
    return 3 if any(finding.status == "fail" for finding in findings) else 0


def run_checks() -> list[Check]:
    """All checks; one that breaks down is itself a finding."""
    return [_guarded(check) for check in _CHECKS]


def _guarded(check: Callable[[], Check]) -> Check:
    try:
        return check()
    except Exception as error:
        name = check.__name__.removeprefix("_").replace("_", " ")
        return Check(name, "fail", f"{type(error).__name__}: {error}", fix=_INSTALL)


def _python() -> Check:
    version = platform.python_version()
    return Check("python", "ok", f"{version} on {platform.system()} {platform.machine()}")


def _cores() -> Check:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if cores < 2:
        return Check("cores", "warn", f"{cores}", fix="rendering in real time wants 2 or more")
    return Check("cores", "ok", f"{cores}")


def _torch() -> Check:
    import torch

    if torch.randn(4, 4).matmul(torch.eye(4)).isfinite().all():
        return Check("torch", "ok", f"{torch.__version__}, {torch.get_num_threads()} threads")
    return Check("torch", "fail", f"{torch.__version__} computes nonsense", fix="reinstall torch")


def _bf16() -> Check:
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    known = [name for name in ("amx_bf16", "avx512_bf16") if name in flags]
    if known:
        return Check("bf16 on the CPU", "ok", ", ".join(known))
    return Check(
        "bf16 on the CPU", "warn", "no instructions for it", fix="--precision fp32 may be faster here"
    )


def _gpu() -> Check:
    import torch

    if not torch.cuda.is_available():
        return Check(
            "gpu",
            "warn",
            "none; rendering on the CPU",
            fix="optional: an NVIDIA GPU and a CUDA build of torch",
        )
    properties = torch.cuda.get_device_properties(0)
    return Check("gpu", "ok", f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB")


def _ffmpeg() -> Check:
    import subprocess

    import imageio_ffmpeg

    binary = imageio_ffmpeg.get_ffmpeg_exe()
    encoders = subprocess.run(
        [binary, "-hide_banner", "-encoders"], capture_output=True, text=True, timeout=60, check=True
    ).stdout
    missing = [name for name in ("libx264", " aac ") if name not in encoders]
    if missing:
        return Check("ffmpeg", "fail", f"{binary} lacks {', '.join(missing)}", fix="unset IMAGEIO_FFMPEG_EXE")
    return Check("ffmpeg", "ok", f"{Path(binary).name} with libx264 and aac")


def _pyav() -> Check:
    av = importlib.import_module("av")
    return Check("PyAV", "ok", str(av.__version__))


def _decord() -> Check:
    try:
        importlib.import_module("decord")
    except (ImportError, OSError):
        return Check(
            "decord", "warn", "not here; PyAV reads videos", fix="optional, x86-64 only: pip install decord"
        )
    return Check("decord", "ok", metadata.version("decord"))


def _packages() -> Check:
    names = ("numpy", "opencv-python-headless", "pillow", "safetensors", "transformers", "diffusers")
    missing = []
    for name in names:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            missing.append(name)
    if missing:
        return Check("packages", "fail", f"missing: {', '.join(missing)}", fix=_INSTALL)
    return Check("packages", "ok", ", ".join(f"{name} {metadata.version(name)}" for name in names))


def _samples() -> Check:
    missing = [name for name in ("astronaut.jpg", "speech.flac") if not (ASSETS / "samples" / name).is_file()]
    if missing:
        return Check("samples", "fail", f"missing: {', '.join(missing)}", fix="reinstall ifmdm")
    return Check("samples", "ok", str(ASSETS / "samples"))


def _bundle() -> Check:
    from ifmdm_core.bundle import load_bundle
    from ifmdm_core.errors import IfmdmError

    try:
        load_bundle("demo")
    except IfmdmError as error:
        return Check("demo bundle", "fail", error.what, fix=error.fix or "reinstall ifmdm")
    return Check("demo bundle", "ok", "present, digests match")


def _temporary() -> Check:
    with tempfile.NamedTemporaryFile() as file:
        file.write(b"x" * 1024)
        file.flush()
    free = shutil.disk_usage(tempfile.gettempdir()).free / 2**30
    if free < 2:
        return Check("temporary folder", "warn", f"{free:.1f} GiB free", fix="free some space, or set TMPDIR")
    return Check("temporary folder", "ok", f"{tempfile.gettempdir()}, {free:.0f} GiB free")


_CHECKS: tuple[Callable[[], Any], ...] = (
    _python,
    _cores,
    _packages,
    _torch,
    _bf16,
    _gpu,
    _ffmpeg,
    _pyav,
    _decord,
    _samples,
    _bundle,
    _temporary,
)
