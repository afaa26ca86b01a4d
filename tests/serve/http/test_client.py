"""The typed client, and the commands that use it, against real gateways."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, Busy, Conflict, Forbidden, NotFound, Unavailable
from infra import cli
from serve.client import Client
from serve.verify import verify
from tests.serve.gated import GatedStages, until
from tests.serve.gateways import Gateways, RunningGateway


def test_a_render_becomes_a_signed_file(
    gateway: RunningGateway, portrait: Path, speech: Path, tmp_path: Path
) -> None:
    seen: list[tuple[int, int]] = []
    controls = RenderControls(steps=2, pose="hold", intensity=None, face=(0, 0, 400, 400))
    with Client(gateway.url) as client:
        output = tmp_path / "out.mp4"
        done = client.render(portrait, speech, output, controls, progress=lambda *step: seen.append(step))
        digest = client.register(portrait)
        again = client.render(digest, speech, tmp_path / "again.mp4", RenderControls(steps=2))
        served = client.models()
    assert done.frames == 50
    assert seen[-1] == (50, 50)
    assert len(seen) > 2
    assert 0 < done.first_byte_s < done.seconds
    verdict = verify(output)
    assert verdict.good
    assert verdict.record is not None
    assert RenderControls(**verdict.record["controls"]) == controls
    assert again.identity == digest != done.identity
    assert (served[0].name, served[0].default) == ("tiny", True)


def test_refusals_are_the_errors_of_the_house(gateways: Gateways, portrait: Path, speech: Path) -> None:
    path, tokens = gateways.tokens(acme={})
    gateway = gateways.start(f"gateway.tokens={path}")
    output = Path("/nonexistent/out.mp4")
    with Client(gateway.url, tokens["acme"]) as client:
        with pytest.raises(BadInput, match="portrait: is not a picture"):
            client.render(speech, speech, output)
        with pytest.raises(NotFound, match="no such picture file"):
            client.render("nothing.jpg", speech, output)
        with pytest.raises(NotFound, match="no model 'other'"):
            client.render(portrait, speech, output, model="other")
        with pytest.raises(Forbidden, match="outside the places"):
            client.render("s3://bucket/photo.jpg", speech, output)
        with pytest.raises(NotFound, match="there is no file"):
            client.fetch("0" * 32, output)
        with pytest.raises(Forbidden, match="scope 'admin'"):
            client.switch("demo")
    with Client(gateway.url) as client, pytest.raises(Forbidden, match="needs a token"):
        client.models()
    with Client("http://127.0.0.1:1") as client, pytest.raises(Unavailable, match="does not answer"):
        client.models()
    with pytest.raises((BadInput, Unavailable)), Client("no address") as client:
        client.models()


def test_a_busy_service_is_asked_again_while_patience_lasts(
    gateways: Gateways, portrait: Path, speech: Path
) -> None:
    stages = GatedStages(gateways.stages(), first_held=1)
    gateway = gateways.start("gateway.limits.streams=1", stages=stages)
    with Client(gateway.url) as first, first.stream(portrait, speech) as held:
        pieces = iter(held)
        assert next(pieces)
        with Client(gateway.url, patience_s=0) as second, pytest.raises(Busy, match="all 1 streams"):
            second.stream(portrait, speech).__enter__()
    until(lambda: gateway.service.admission.held == 0, "leaving the block stops the render")
    with Client(gateway.url) as first, first.stream(portrait, speech) as held:
        pieces = iter(held)
        assert next(pieces)
        rest: list[bytes] = []
        reader = threading.Thread(target=lambda: rest.extend(pieces))
        with Client(gateway.url, patience_s=60) as second:
            threading.Timer(0.5, stages.gate.set).start()
            reader.start()
            with second.stream(portrait, speech) as late:
                assert len(b"".join(late)) > 0
        reader.join()
        assert rest


def test_only_one_model_is_rolled_out_at_a_time(gateway: RunningGateway) -> None:
    with Client(gateway.url) as client, pytest.raises((Conflict, BadInput), match="its own process"):
        client.switch("demo")


def test_the_command_renders_at_a_service(
    gateway: RunningGateway, portrait: Path, speech: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "render",
        str(portrait),
        str(speech),
        "-o",
        str(tmp_path / "out.mp4"),
        "--server",
        gateway.url,
    ]
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--steps", "2", "--fps", "10", "--json"])
    assert ended.value.code == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["frames"], report["fps"], report["width"]) == (20, 10, 64)
    assert verify(tmp_path / "out.mp4").good
    with pytest.raises(SystemExit) as ended:
        cli.main([*arguments, "--device", "cpu"])
    assert ended.value.code == 2
    assert "--device is for renders in this process" in capsys.readouterr().err


def test_neither_client_nor_routes_need_torch_or_ray() -> None:
    code = (
        "import sys, serve.client, serve.app, infra.commands.serve\n"
        "heavy = {'torch', 'ray', 'gradio', 'transformers', 'diffusers', 'av', 'cv2', 'mlflow', 'boto3'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
