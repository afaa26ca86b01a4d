"""What is made before services start, in a folder and behind the S3 endpoint in memory."""

from __future__ import annotations

import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from infra.stack.home import Home
from infra.stack.place import Place
from infra.stack.ports import choose
from infra.stack.prepare import SOCKET_ROOM, make_job_store, make_temp, make_token, write_serve_config
from infra.stack.processes import created, kill_marked, spawn
from infra.stack.services import services_of
from infra.stack.settings import serve_config
from infra.stack.state import Settings, StackState, Started
from jobs.client import JobClient


def place_in(folder: Path, settings: Settings) -> Place:
    home = Home(folder / "home")
    home.make()
    temp = folder / "temp"
    temp.mkdir()
    state = StackState(id=f"test-{folder.name}", temp=str(temp), settings=settings)
    place = Place(home, state, serve_config(home, settings))
    for service in services_of(place):
        state.ports.update(choose(dict.fromkeys(service.ports)))
    write_serve_config(place)
    return place


@pytest.fixture
def no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of S3 that are set meanwhile are as before afterwards."""
    for name in ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "")


@pytest.fixture
def in_memory(tmp_path: Path, no_keys: None) -> Iterator[Place]:
    """A stack of which only the S3 endpoint runs."""
    place = place_in(tmp_path, Settings(s3=True))
    service = services_of(place)[0]
    process = spawn(service.command(place), place.home.log("s3"), place.environment("s3"), place.temp)
    started = Started(pid=process.pid, created=created(process.pid), address="")
    while service.look(place, started).health != "ready":
        assert process.poll() is None, place.home.log("s3").read_text()
        time.sleep(0.1)
    yield place
    kill_marked(place.state.id)
    assert service.look(place, started).health == "dead"


def test_jobs_are_submitted_to_a_folder(tmp_path: Path, portrait: Path) -> None:
    place = place_in(tmp_path, Settings())
    make_job_store(place, tmp_path)
    make_job_store(place, tmp_path)
    speech = portrait.with_name("speech.flac")
    done = JobClient(place.jobs).submit(
        portrait=str(_copied(portrait, tmp_path)), audio=str(_copied(speech, tmp_path)),
        output=f"{place.bucket}/out/a.mp4",
    )  # fmt: skip
    assert done.created


def test_jobs_are_submitted_to_a_bucket_in_memory(in_memory: Place, portrait: Path) -> None:
    make_job_store(in_memory, Path.cwd())
    make_job_store(in_memory, Path.cwd())
    client = JobClient(in_memory.jobs, s3=in_memory.s3)
    job = {"portrait": str(portrait), "audio": str(portrait.with_name("speech.flac"))}
    assert client.submit(**job, output="s3://ifmdm/out/a.mp4").created
    assert not client.submit(**job, output="s3://ifmdm/out/a.mp4").created


def test_the_token_is_the_users_alone_and_stays(tmp_path: Path) -> None:
    home = Home(tmp_path)
    make_token(home)
    first = home.token.read_text()
    make_token(home)
    assert home.token.read_text() == first
    assert len(first) == 64
    assert stat.S_IMODE(home.token.stat().st_mode) == 0o600


def test_the_service_is_configured_with_whole_paths_and_its_port(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "config.yaml").write_text("model: models:/talker@champion\ngateway: {studio: false}\n")
    settings = Settings(serve=str(tmp_path / "config.yaml"), changes=("gateway.tokens=tokens.yaml",))
    place = place_in(tmp_path, settings)
    written = yaml.safe_load(place.home.serve_config.read_text())
    assert written["model"] == "models:/talker@champion"  # looked up by the service, once MLflow runs
    assert written["root"] == str(place.home.service)
    assert written["gateway"]["port"] == place.port("gateway")
    assert written["gateway"]["tokens"] == str(tmp_path / "tokens.yaml")
    serve = services_of(place)[-1]
    assert set(serve.needs) == {"ray", "mlflow"}


def test_sockets_have_room_for_their_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 60)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    made = make_temp()
    made.rmdir()
    assert len(str(made.parent)) <= SOCKET_ROOM


def _copied(path: Path, folder: Path) -> Path:
    copy = folder / path.name
    copy.write_bytes(path.read_bytes())
    return copy
