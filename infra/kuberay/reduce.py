"""KubeRay's custom resource definitions → manifests.schema.json: names and types only, unknown fields refused.

    python -m infra.kuberay.reduce FOLDER --version v1.7.0

FOLDER holds `ray.io_rayclusters.yaml`, `ray.io_rayjobs.yaml` and `ray.io_rayservices.yaml` of that KubeRay release
(`ray-operator/config/crd/bases` of its repository). Pods, services and network rules of Kubernetes are taken from
where KubeRay embeds them; the few other Kubernetes objects that our manifests use are in `_core` below.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

SCHEMA = Path(__file__).with_name("manifests.schema.json")
KINDS = ("RayCluster", "RayJob", "RayService")
KUBERNETES = "v1"
"""API version of pods and services."""
SHARED = 60
"""Characters from which on a part that occurs again is written once."""

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TEXTS: Schema = {"type": "array", "items": _TEXT}
_NUMBER: Schema = {"type": "integer"}
_SWITCH: Schema = {"type": "boolean"}
_TEXT_MAP: Schema = {"type": "object", "additionalProperties": _TEXT}
_COUNT: Schema = {"type": ["integer", "string"]}


def reduced(definitions: dict[str, Schema], version: str) -> Schema:
    """The schema of every kind our manifests use.

    Args:
        definitions: kind → its custom resource definition.
        version: of KubeRay, for the record.
    """
    kinds: dict[str, Schema] = {}
    for kind, definition in definitions.items():
        (served,) = [each for each in definition["spec"]["versions"] if each["name"] == "v1"]
        fields = _names_and_types(served["schema"]["openAPIV3Schema"])
        fields["properties"].pop("status", None)
        kinds[kind] = _object(fields["properties"]["spec"], "ray.io/v1", kind)
    kinds |= _core(kinds)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$comment": f"Names and types of KubeRay {version} and of Kubernetes {KUBERNETES} as far as used; made by "
        "python -m infra.kuberay.reduce",
        **_shared(kinds),
    }


def _names_and_types(schema: Schema) -> Schema:
    """A part of a definition without prose, defaults and rules; free objects stay free."""
    if schema.get("x-kubernetes-int-or-string"):
        return dict(_COUNT)
    found: Schema = {name: schema[name] for name in ("type", "enum", "required") if name in schema}
    if "properties" in schema:
        parts = {name: _names_and_types(part) for name, part in schema["properties"].items()}
        found |= {"type": "object", "properties": parts, "additionalProperties": False}
    elif isinstance(more := schema.get("additionalProperties"), dict):
        found["additionalProperties"] = _names_and_types(more)
    if "items" in schema:
        found["items"] = _names_and_types(schema["items"])
    return found


def _fields(required: tuple[str, ...] = (), **properties: Schema) -> Schema:
    found: Schema = {"type": "object", "properties": properties, "additionalProperties": False}
    return found | ({"required": list(required)} if required else {})


def _object(spec: Schema | None, api: str, kind: str, **more: Schema) -> Schema:
    metadata = _fields(
        ("name",), name=_TEXT, namespace=_TEXT, labels=_TEXT_MAP, annotations=_TEXT_MAP, finalizers=_TEXTS
    )
    parts = {"apiVersion": {"const": api}, "kind": {"const": kind}, "metadata": metadata, **more}
    required = ("apiVersion", "kind", "metadata")
    if spec is None:
        return _fields(required, **parts)
    return _fields((*required, "spec"), **parts, spec=spec)


def _core(kinds: dict[str, Schema]) -> dict[str, Schema]:
    """Kubernetes' own objects, put together from what the definitions embed."""
    cluster = kinds["RayCluster"]["properties"]["spec"]["properties"]
    head = cluster["headGroupSpec"]["properties"]
    rules = cluster["networkPolicy"]["properties"]["head"]["properties"]
    pods = head["template"]
    volumes = pods["properties"]["spec"]["properties"]["volumes"]["items"]["properties"]
    claim = volumes["ephemeral"]["properties"]["volumeClaimTemplate"]["properties"]["spec"]
    selector = rules["ingressRules"]["items"]["properties"]["from"]["items"]["properties"]["podSelector"]
    rolling = _fields(maxSurge=_COUNT, maxUnavailable=_COUNT)
    strategy = _fields(type={"enum": ["Recreate", "RollingUpdate"]}, rollingUpdate=rolling)
    deployment = _fields(
        ("selector", "template"), replicas=_NUMBER, selector=selector, template=pods, strategy=strategy,
        minReadySeconds=_NUMBER, revisionHistoryLimit=_NUMBER, progressDeadlineSeconds=_NUMBER, paused=_SWITCH,
    )  # fmt: skip
    policy = _fields(
        ("podSelector",), podSelector=selector, ingress=rules["ingressRules"], egress=rules["egressRules"],
        policyTypes={"type": "array", "items": {"enum": ["Ingress", "Egress"]}},
    )  # fmt: skip
    budget = _fields(
        minAvailable=_COUNT, maxUnavailable=_COUNT, selector=selector,
        unhealthyPodEvictionPolicy={"enum": ["IfHealthyBudget", "AlwaysAllow"]},
    )  # fmt: skip
    return {
        "Namespace": _object(None, "v1", "Namespace"),
        "Service": _object(head["headService"]["properties"]["spec"], "v1", "Service"),
        "Deployment": _object(deployment, "apps/v1", "Deployment"),
        "NetworkPolicy": _object(policy, "networking.k8s.io/v1", "NetworkPolicy"),
        "PodDisruptionBudget": _object(budget, "policy/v1", "PodDisruptionBudget"),
        "PersistentVolumeClaim": _object(claim, "v1", "PersistentVolumeClaim"),
        "ConfigMap": _object(None, "v1", "ConfigMap", data=_TEXT_MAP, immutable=_SWITCH),
        "ServiceAccount": _object(None, "v1", "ServiceAccount", automountServiceAccountToken=_SWITCH),
    }


def _shared(kinds: dict[str, Schema]) -> Schema:
    """`kinds` with every part that occurs more than once under `$defs`, named after the field it was met at first."""
    seen: Counter[str] = Counter()

    def look(part: Schema, name: str) -> Schema:
        seen[_text(part)] += 1
        return part if seen[_text(part)] > 1 else _with_parts(part, name, look)

    names: dict[str, str] = {}
    parts: dict[str, Schema] = {}

    def put(part: Schema, name: str) -> Schema:
        text = _text(part)
        if seen[text] < 2 or len(text) < SHARED:
            return _with_parts(part, name, put)
        if text not in names:
            names[text] = name if name not in parts else f"{name}{len(parts)}"
            parts[names[text]] = {}  # keeps the place while its own parts are put
            parts[names[text]] = _with_parts(part, name, put)
        return {"$ref": f"#/$defs/{names[text]}"}

    for kind, schema in kinds.items():
        look(schema, kind)
    return {"kinds": {kind: put(schema, kind) for kind, schema in kinds.items()}, "$defs": parts}


def _with_parts(schema: Schema, name: str, change: Callable[[Schema, str], Schema]) -> Schema:
    """A schema with the schemas inside it changed; `name` is the field it stands at."""
    found = dict(schema)
    if "properties" in schema:
        found["properties"] = {field: change(part, field) for field, part in schema["properties"].items()}
    for inner in ("items", "additionalProperties"):
        if isinstance(schema.get(inner), dict):
            found[inner] = change(schema[inner], name)
    return found


def _text(part: Any) -> str:
    return json.dumps(part, sort_keys=True, separators=(",", ":"))


def written(schema: Schema) -> str:
    """As it is committed: one definition a line."""
    lines = []
    for name, value in schema.items():
        if name in ("kinds", "$defs"):
            inner = ",\n".join(f'"{key}":{_text(part)}' for key, part in sorted(value.items()))
            lines.append(f'"{name}":{{\n{inner}\n}}')
        else:
            lines.append(f'"{name}":{_text(value)}')
    return "{" + ",\n".join(lines) + "}\n"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="with the definitions")
    parser.add_argument("--version", required=True, help="of KubeRay, such as v1.7.0")
    given = parser.parse_args()
    definitions = {
        kind: yaml.load((given.folder / f"ray.io_{kind.lower()}s.yaml").read_bytes(), yaml.CSafeLoader)
        for kind in KINDS
    }
    SCHEMA.write_text(written(reduced(definitions, given.version)))
    print(f"{SCHEMA}: {SCHEMA.stat().st_size / 1000:.1f} kB")


if __name__ == "__main__":
    main()
