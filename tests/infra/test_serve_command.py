"""`ifmdm serve` before anything starts: its settings, and what it refuses. (What it starts: tests/serve.)"""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Unavailable
from infra import cli
from infra.app import cpus_needed, resolved, running
from serve.config import GatewayConfig, ServeConfig, SigningConfig, StageConfig


def _main(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        cli.main(arguments)
    out, err = capsys.readouterr()
    assert isinstance(end.value.code, int)
    return end.value.code, out, err


def test_a_dry_run_prints_the_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.yaml").write_text("root: there\nmodel: demo\nmotion: {batch: 2}\n")
    code, out, _ = _main(
        ["serve", str(tmp_path / "mine.yaml"), "--set", "gateway.port=9001", "--dry-run"], capsys
    )
    assert code == 0
    shown = json.loads(out)
    assert (shown["motion"]["batch"], shown["gateway"]["port"]) == (2, 9001)
    assert shown["root"] == str(Path("there").absolute())


def test_without_a_file_the_bundled_model_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = _main(["serve", "--dry-run"], capsys)
    assert code == 0
    assert json.loads(out)["model"] == "demo"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["serve", "none.yaml"], 3, "no configuration file 'none.yaml'"),
        (["serve", "--set", "gateway.prot=1"], 2, "did you mean 'port'?"),
        (["serve", "--set", "gateway.port=many"], 2, "gateway.port is 'many'"),
        (["serve", "--set", "motion.batch=99"], 2, "ongoing 16 is below batch 99"),
        (["serve", "--set", "model=models:/heads@champion", "--dry-run"], 2, "needs MLflow"),
        (["serve", "--set", "model=https://example.com/x", "--dry-run"], 6, "scheme 'https'"),
        (["serve", "--prot", "1"], 2, "unknown option '--prot'"),
        (["serve", "switch"], 2, "missing argument 'MODEL'"),
        (["serve", "switch", "demo", "--server", "http://127.0.0.1:1"], 75, "does not answer"),
    ],
)
def test_what_is_wrong_is_said_before_anything_starts(
    arguments: list[str],
    code: int,
    says: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    got, out, err = _main(arguments, capsys)
    assert (got, out) == (code, "")
    assert says in err


def test_replicas_get_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    config = ServeConfig(
        root="data",
        model="bundle",
        gateway=GatewayConfig(tokens=Path("tokens.yaml")),
        signing=SigningConfig(certificate=Path("c.pem"), key=Path("k.pem")),
    )
    absolute = resolved(config)
    assert (absolute.root, absolute.model) == (str(tmp_path / "data"), str(tmp_path / "bundle"))
    assert absolute.gateway.tokens == tmp_path / "tokens.yaml"
    assert (absolute.signing.certificate, absolute.signing.key) == (tmp_path / "c.pem", tmp_path / "k.pem")
    assert resolved(ServeConfig(root="s3://bucket/x")).root == "s3://bucket/x"


def test_a_cluster_of_its_own_has_room_for_two_models() -> None:
    stage = StageConfig(cpus=20)
    assert cpus_needed(ServeConfig(root="x", speech=stage, gateway=GatewayConfig(cpus=0))) == 42


def test_a_port_that_is_taken_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config = ServeConfig(root=str(tmp_path), gateway=GatewayConfig(port=port))
        with pytest.raises(Unavailable, match=f"already listens on 127.0.0.1:{port}"), running(config):
            pass


def test_a_name_of_mlflow_needs_its_address() -> None:
    with pytest.raises(BadInput, match="needs MLflow"):
        resolved(ServeConfig(root="x", model="models:/heads/3"))
