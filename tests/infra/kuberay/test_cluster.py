"""What runs on the cluster: entry points, where Ray's autoscaler would put things, versions that have to be one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import infra.docker
from ifmdm_core.errors import BadInput
from infra.kuberay import drain, entry, reduce
from infra.kuberay.entry import EntryArgs
from infra.kuberay.render import rendered
from tests.infra.kuberay.test_validate import FILES


def _service(folder: str) -> Any:
    return next(each.value for each in rendered(FILES, folder) if each.kind == "RayService")


def _config(folder: str) -> Any:
    return yaml.safe_load(_service(folder)["spec"]["serveConfigV2"])


def test_each_entry_makes_the_deployment_that_the_manifests_name(tmp_path: Path) -> None:
    from tests.jobs.small_store import SmallStore

    SmallStore(tmp_path / "jobs")
    args = {
        "serve": {"root": str(tmp_path / "service"), "gateway": {"studio": False}},
        "jobs": str(tmp_path / "jobs"),
    }
    for application in _config("base")["applications"]:
        module, _, name = application["import_path"].partition(":")
        assert module == entry.__name__
        built = getattr(entry, name)(args)
        assert [each["name"] for each in application["deployments"]] == [built._bound_deployment.name]


def test_an_unknown_argument_is_refused() -> None:
    with pytest.raises(BadInput, match="did you mean 'slots'"):
        entry.gateway({"serve": {"root": "s3://renders/service"}, "slot": 2})
    with pytest.raises(BadInput, match="jobs is not set"):
        entry.workers({"serve": {"root": "s3://renders/service"}})


def _groups(folder: str) -> dict[str, Any]:
    """Node types as Ray's autoscaler reads them from the manifest."""
    from ray.autoscaler._private.kuberay.autoscaling_config import _derive_autoscaling_config_from_ray_cr

    cluster = {
        "metadata": {"name": "c", "namespace": "n"},
        "spec": _service(folder)["spec"]["rayClusterConfig"],
    }
    found: dict[str, Any] = _derive_autoscaling_config_from_ray_cr(cluster)["available_node_types"]
    return found


def _takers(groups: dict[str, Any], wanted: dict[str, float]) -> set[str]:
    return {
        name
        for name, group in groups.items()
        if group["max_workers"]
        and all(group["resources"].get(key, 0) >= value for key, value in wanted.items())
    }


@pytest.mark.parametrize("folder", ["base", "dev"])
def test_ray_s_autoscaler_has_a_group_for_every_actor_and_enough_of_its_nodes(folder: str) -> None:
    groups, applications = _groups(folder), _config(folder)["applications"]
    serve = EntryArgs.model_validate(applications[0]["args"]).serve
    for application in applications:
        (deployment,) = application["deployments"]
        options = deployment["ray_actor_options"]
        (group,) = _takers(groups, {"CPU": options["num_cpus"], **options["resources"]})
        assert group == ("workers" if deployment["name"] == "workers" else "gateway")
        nodes = groups[group]["max_workers"]
        (amount,) = options["resources"].items()
        assert nodes * groups[group]["resources"][amount[0]] >= deployment.get("num_replicas", 1) * amount[1]
    for name in ("speech", "motion", "decoder"):
        stage = getattr(serve, name)
        wanted = {"CPU": stage.cpus, **({"GPU": stage.gpus} if stage.gpus else {})}
        if stage.accelerator is not None:
            wanted[f"accelerator_type:{stage.accelerator}"] = 0.001
        takers = _takers(groups, wanted)
        if folder == "base":
            assert takers == ({"decoder", "decoder-spot"} if name == "decoder" else {name})
            room = sum(
                groups[taker]["max_workers"]
                * min(int(groups[taker]["resources"][kind] / wanted[kind]) for kind in ("CPU", "GPU"))
                for taker in takers
            )
            assert room >= stage.scaling.most + 1  # and a first replica of the next model
        assert takers


def test_one_version_of_ray_everywhere() -> None:
    import ray

    versions = set(re.findall(r"rayVersion: (\S+)", "".join(path.read_text() for path in _manifests())))
    locks = Path(infra.docker.__file__).parent.glob("requirements.*.lock")
    locked = {
        version for lock in locks for version in re.findall(r"^ray==(\S+)", lock.read_text(), re.MULTILINE)
    }
    assert versions == locked
    assert versions == {ray.__version__}


def _manifests() -> list[Path]:
    return [path for path in Path(entry.__file__).parent.rglob("*.yaml") if "rayVersion" in path.read_text()]


def test_the_schema_is_small_says_its_version_and_is_strict() -> None:
    import json

    text = reduce.SCHEMA.read_text()
    schema = json.loads(text)
    assert len(text) <= 60_000
    assert re.search(r"KubeRay v\d+\.\d+\.\d+", schema["$comment"])
    for kind in ("RayCluster", "RayService", "RayJob", "Deployment"):
        assert schema["kinds"][kind]["additionalProperties"] is False


def test_a_definition_is_reduced_to_names_and_types() -> None:
    found = reduce._names_and_types(
        {
            "type": "object", "description": "prose", "required": ["a"],
            "properties": {
                "a": {"type": "integer", "default": 1, "minimum": 0},
                "b": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "c": {"type": "array", "items": {"type": "string", "enum": ["x"], "description": "prose"}},
                "d": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    )  # fmt: skip
    assert found == {
        "type": "object", "required": ["a"], "additionalProperties": False,
        "properties": {
            "a": {"type": "integer"}, "b": {"type": ["integer", "string"]},
            "c": {"type": "array", "items": {"type": "string", "enum": ["x"]}},
            "d": {"type": "object", "additionalProperties": {"type": "string"}},
        },
    }  # fmt: skip


def test_where_ray_has_gone_there_is_nothing_to_wait_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    assert drain.drain(600) == 0
