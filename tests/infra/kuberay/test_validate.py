"""The manifests as they are have no fault; a typo anywhere in them is one, always."""

from __future__ import annotations

import copy
import random
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

import infra.kuberay
from infra.kuberay.render import Files, read
from infra.kuberay.validate import faults, main
from tests.docs.documents import read as read_guide

FOLDER = Path(infra.kuberay.__file__).parent
FILES = read(FOLDER)

Way = tuple[str | int, ...]
"""To a value in FILES: file, number of the document, keys; a text that is YAML itself is gone into as well."""


def test_the_manifests_have_no_fault(capsys: pytest.CaptureFixture[str]) -> None:
    python, option, module, *arguments = (
        read_guide("docs/kubernetes.md").block("kuberay.validate").text.split()
    )
    assert (python, option, module) == ("python", "-m", main.__module__)
    assert main(arguments) == 0
    assert "no fault" in capsys.readouterr().out


SERVICE = "base/serve.yaml"


@pytest.mark.parametrize(
    ("file", "was", "typo", "where", "fix"),
    [
        # a field of KubeRay's, of Kubernetes', of a network rule
        (SERVICE, "maxReplicas: 14", "maxReplica: 14", "workerGroupSpecs[5]", "maxReplicas"),
        (SERVICE, "serviceAccountName: ifmdm-head", "serviceAcountName: ifmdm-head", "spec", "serviceAccountName"),
        (SERVICE, "readOnlyRootFilesystem: true", "readOnlyRootFileSystem: true", "securityContext", "readOnlyRoot"),
        ("base/network.yaml", "podSelector: {}", "podSelecter: {}", "NetworkPolicy/deny spec", "podSelector"),
        # a key of Serve's, of ours in it, of ours in a ConfigMap
        (SERVICE, "num_replicas: 4", "num_replica: 4", "applications[2].deployments[0]", "num_replicas"),
        (SERVICE, "downscale_delay_s: 300, backlog: 50", "downscale_delay: 300, backlog: 50", "applications[0]", "_s"),
        ("base/settings.yaml", "min_frames: 25", "min_frame: 25", "data.clips.yaml", "min_frames"),
        # a flag of ifmdm's, of Ray's, of MLflow's, of a module of ours
        ("jobs/clips.yaml", "--workers 400", "--worker 400", "entrypoint", "--workers"),
        (SERVICE, "{num-cpus: \"0\", dash", "{num-cpu: \"0\", dash", "rayStartParams", "num-cpus"),
        ("base/mlflow.yaml", "--artifacts-destination", "--artifact-destination", "command", "--artifacts-dest"),
        (SERVICE, "--deadline-s, \"120\"", "--deadlines, \"120\"", "preStop", "--deadline-s"),
        # references: an account, a secret, one of its keys, a mounted file, a volume, a cluster, labels, an import
        ("base/accounts.yaml", "name: ifmdm-worker", "name: ifmdm-workers", "serviceAccountName", "ifmdm-workers"),
        (SERVICE, "secretName: ifmdm-tokens", "secretName: ifmdm-token", "volumes", "ifmdm-tokens"),
        ("base/mlflow.yaml", "key: database", "key: databases", "secretKeyRef", "database"),
        ("jobs/train.yaml", "training/motion.yaml", "training/motions.yaml", "entrypoint", "motion.yaml"),
        (SERVICE, "{name: cache, mountPath", "{name: cahce, mountPath", "volumeMounts", "cache"),
        ("jobs/features.yaml", "cluster: ifmdm-data", "cluster: ifmdm-date", "clusterSelector", "ifmdm-data"),
        ("base/budgets.yaml", "component: decoder", "component: decoders", "selects no pod", ""),
        (SERVICE, "entry:keeper", "entry:keeperr", "applications[1]", "keeper"),
        (SERVICE, "resources: {keeper: 1}", "resources: {kepeer: 1}", "resource", "keeper"),
        (SERVICE, "accelerator: L4", "accelerator: L40", "accelerator_type", "L4"),
        ("base/kustomization.yaml", "- mlflow.yaml", "- mlfow.yaml", "resources", "mlflow.yaml"),
        ("dev/data.yaml", "Specs/0/maxReplicas", "Spec/0/maxReplicas", "workerGroupSpec", "workerGroupSpecs"),
        # what would be refused only later, or never
        (SERVICE, "terminationGracePeriodSeconds: 150", "terminationGracePeriodSeconds: 90", "drain", "130"),
        (SERVICE, "runAsNonRoot: true", "runAsNonRoot: false", "root", "runAsNonRoot"),
        (SERVICE, "mode: token", "mode: disabled", "token", ""),
        (SERVICE, "cpu: \"3\", memory: 8Gi", "cpu: \"3\", memory: 8Gb", "quantity", "8Gi"),
    ],
)  # fmt: skip
def test_a_typo_is_found_where_it_is(file: str, was: str, typo: str, where: str, fix: str) -> None:
    text = (FOLDER / file).read_text()
    assert was in text
    changed = list(yaml.load_all(text.replace(was, typo), yaml.CSafeLoader))
    found = list(map(str, faults({**FILES, file: changed})))
    assert any(where in line and fix in line for line in found), found


def _ways(value: Any, way: Way) -> Iterator[Way]:
    """To every key of every mapping."""
    if isinstance(value, list):
        for number, each in enumerate(value):
            yield from _ways(each, (*way, number))
    elif isinstance(value, dict):
        for key, each in value.items():
            yield (*way, key)
            yield from _ways(each, (*way, key))
    elif isinstance(value, str) and "\n" in value:
        yield from _ways(yaml.load(value, yaml.CSafeLoader), (*way, "\n"))


KEYS = [way for file, documents in FILES.items() for way in _ways(documents, (file,))]


def _changed(value: Any, way: Way, change: Callable[[dict[Any, Any], Any], None]) -> Any:
    """A copy of `value` in which the key at the end of `way` is changed."""
    if way[0] == "\n":
        inside = _changed(yaml.load(value, yaml.CSafeLoader), way[1:], change)
        return yaml.dump(inside, Dumper=yaml.CSafeDumper)
    value = copy.copy(value)
    if len(way) == 1:
        change(value, way[0])
    else:
        value[way[0]] = _changed(value[way[0]], way[1:], change)
    return value


def _renamed(files: Files, way: Way, name: str) -> Files:
    def rename(mapping: dict[Any, Any], key: Any) -> None:
        items = [(name if each == key else each, value) for each, value in mapping.items()]
        mapping.clear()
        mapping.update(items)

    return _changed(files, way, rename)  # type: ignore[no-any-return]


def _misspelt(key: str, number: int) -> str:
    """Two letters swapped, one doubled, one left out, or the first letter of another case."""
    at = number % len(key)
    others = [
        key[:at] + key[at + 1 : at + 2] + key[at] + key[at + 2 :],
        key[:at] + key[at] + key[at:],
        key[:at] + key[at + 1 :],
        key.swapcase() if len(key) == 1 else key[0].swapcase() + key[1:],
        key + "s",
    ]
    usable = [other for other in others if other not in ("", key)]
    return usable[number % len(usable)]


DISTINCT = list({way[-1]: way for way in KEYS}.values())
"""Each name once, at some place; the next test takes any."""


def test_a_misspelt_key_of_any_kind_is_found() -> None:
    random_number = random.Random(7).randrange
    missed = []
    for way in DISTINCT:
        name = _misspelt(str(way[-1]), random_number(1000))
        if not faults(_renamed(FILES, way, name)):
            missed.append((way, name))
    assert len(DISTINCT) > 200
    assert not missed


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(KEYS), st.integers(0, 1000))
def test_a_misspelt_key_anywhere_is_found(way: Way, number: int) -> None:
    assert faults(_renamed(FILES, way, _misspelt(str(way[-1]), number)))


COMMANDS = [
    (file, flag)
    for file in FILES
    for flag in sorted(set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", (FOLDER / file).read_text())))
]


@pytest.mark.parametrize(("file", "flag"), COMMANDS)
def test_a_misspelt_flag_is_found(file: str, flag: str) -> None:
    for number in (3, 6):
        typo = "--" + _misspelt(flag.removeprefix("--"), number).lower()
        text = re.sub(rf"{flag}(?![\w-])", typo, (FOLDER / file).read_text())
        if typo != flag:
            assert faults({**FILES, file: list(yaml.load_all(text, yaml.CSafeLoader))}), typo


def test_a_manifest_that_is_no_yaml_is_said_to_be_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "odd.yaml").write_text("a: [")
    assert main([str(tmp_path)]) == 1
    assert "odd.yaml is no YAML" in capsys.readouterr().out
