"""Dockerfile, locks and compose.yaml: no fault as they are; a typo in them is one."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

import infra.docker
from infra.docker.compose import compose_faults
from infra.docker.images import image_faults

FOLDER = Path(infra.docker.__file__).parent
ROOT = FOLDER.parents[1]
PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)


def test_dockerfile_and_compose_have_no_fault() -> None:
    assert list(image_faults(FOLDER / "Dockerfile", ROOT)) == []
    assert list(compose_faults(FOLDER / "compose.yaml")) == []


@pytest.mark.parametrize(
    ("was", "typo", "says"),
    [
        ("COPY pipelines ", "COPY pipelnes ", "there is no 'pipelnes' to copy"),
        ("COPY configs ", "COPY docs ", "'docs' is not sent to Docker"),
        ("--from=build", "--from=biuld", "no stage 'biuld'"),
        ("WORKDIR", "WORKDRI", "unknown instruction 'WORKDRI'"),
        ("requirements.${TARGET}.lock", "requirement.${TARGET}.lock", "requirement.cuda.lock"),
        ("-r /build", "-r ${BUILD}/build", "BUILD is not declared"),
        ("USER 1000:1000", "USER root", "runs as root"),
    ],
)
def test_a_typo_in_the_dockerfile_is_found(was: str, typo: str, says: str, tmp_path: Path) -> None:
    for name in ("Dockerfile", "Dockerfile.dockerignore"):
        shutil.copy(FOLDER / name, tmp_path)
    text = (FOLDER / "Dockerfile").read_text()
    assert was in text
    (tmp_path / "Dockerfile").write_text(text.replace(was, typo))
    assert any(says in str(fault) for fault in image_faults(tmp_path / "Dockerfile", ROOT))


@pytest.mark.parametrize(
    ("was", "typo", "says"),
    [
        ("shm_size: 2gb", "shm_sise: 2gb", "did you mean 'shm_size'?"),
        ("--workers 1", "--worker 1", "did you mean '--workers'?"),
        ("--num-cpus=0", "--num-cpu=0", "unknown option '--num-cpu'"),
        ("--host=0.0.0.0", "--hots=0.0.0.0", "did you mean '--host'?"),
        ("secrets: [ray]\n", "secrets: [rya]\n", "did you mean 'ray'?"),
        ("mlflow:/data", "mlfow:/data", "no volume 'mlfow'"),
        ("store: {condition", "stor: {condition", "did you mean 'store'?"),
        ("./serve.yaml:/etc", "./serv.yaml:/etc", "no './serv.yaml' to mount"),
        ("condition: service_healthy", "condition: service_health", "service_healthy"),
        ("127.0.0.1:8265:", "8265:", "is open to the network"),
        ("[ifmdm, jobs, init", "[ifmdm, jobs, inti", "did you mean 'init'?"),
    ],
)
def test_a_typo_in_compose_is_found(was: str, typo: str, says: str, tmp_path: Path) -> None:
    text = (FOLDER / "compose.yaml").read_text().replace("../..", str(ROOT))
    assert was in text
    shutil.copy(FOLDER / "serve.yaml", tmp_path)
    (tmp_path / "compose.yaml").write_text(text.replace(was, typo))
    found = list(map(str, compose_faults(tmp_path / "compose.yaml")))
    assert any(says in line for line in found), found


def test_the_locks_differ_in_torch_and_what_it_brings_only() -> None:
    cpu, cuda = (
        dict(PIN.findall((FOLDER / f"requirements.{target}.lock").read_text())) for target in ("cpu", "cuda")
    )
    assert cpu["torch"] == cuda["torch"] + "+cpu"
    assert {name: version for name, version in cpu.items() if cuda.get(name) != version} == {
        "torch": cpu["torch"]
    }
    more = {name for name in cuda if name not in cpu}
    assert all(name.startswith(("nvidia-", "cuda-", "triton")) for name in more)


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_a_lock_has_what_the_package_needs_with_hashes_and_no_address(target: str) -> None:
    import tomllib

    text = (FOLDER / f"requirements.{target}.lock").read_text()
    pins = dict(PIN.findall(text))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    for line in (*project["dependencies"], *extras["render"], *extras["cluster"], *extras["studio"]):
        name = re.match(r"[A-Za-z0-9._-]+", line)
        assert name is not None
        assert name[0].lower() in {pin.lower() for pin in pins}, (
            f"{name[0]} is not in the lock: make it again"
        )
    assert text.count("--hash=sha256:") >= len(pins)
    assert "://" not in text
