"""Ray clusters, the services and jobs on them: start parameters, tokens, serveConfigV2, entry points, graces."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Iterator
from functools import cache
from typing import Any

import yaml

from ifmdm_core.errors import IfmdmError, nearest
from infra.kuberay.commands import ray_start_options
from infra.kuberay.entry import LEAVE_S, EntryArgs
from infra.kuberay.faults import Fault, Place
from infra.kuberay.known import LABELS
from infra.kuberay.pods import (
    Cast,
    Pod,
    cluster_of,
    command_faults,
    groups_of,
    locked_faults,
    pods_of,
    resource_faults,
)
from infra.kuberay.shapes import faults_by

MARGIN_S = 10
"""Between the end of a drain and the end of its pod: for Ray's own processes."""
SELECTOR = "ray.io/cluster"
TOKEN = "auth_token"
"""The key that KubeRay reads a cluster's token from."""


def cluster_faults(document: Place, cast: Cast) -> Iterator[Fault]:
    """What is wrong with an object's Ray cluster."""
    cluster = cluster_of(document)
    if cluster is None:
        return
    token = cluster.at("authOptions")
    if token.at("mode").value != "token":
        yield token.fault("nodes need no token", "authOptions: {mode: token, secretName: …}")
    yield from cast.secret(token, str(token.at("secretName").value), TOKEN)
    autoscaler = cluster.at("autoscalerOptions")
    if cluster.at("enableInTreeAutoscaling").value is True:
        yield from locked_faults(autoscaler)
        yield from resource_faults(autoscaler.at("resources"))
    for group in groups_of(document):
        yield from group.at("rayStartParams").keys_among("parameter of ray start", ray_start_options())
        yield from group.at("labels").keys_among("label", LABELS)
        least, now, most = (group.at(name).value for name in ("minReplicas", "replicas", "maxReplicas"))
        if all(isinstance(each, int) for each in (least, now, most)) and not least <= now <= most:
            yield group.fault(f"replicas {now} is not between {least} and {most}")


def job_faults(document: Place, clusters: list[str], pods: list[Pod], cast: Cast) -> Iterator[Fault]:
    """What is wrong with a RayJob: its command, and the cluster it is for.

    Args:
        clusters: names of the standing ones.
        pods: in which the command may run.
    """
    line = document.at("spec", "entrypoint")
    yield from command_faults(line, str(line.value))
    for word in str(line.value).split():
        for pod in pods:
            yield from pod.file_faults(line, word, cast)
    selector = document.at("spec", "clusterSelector")
    if selector.value:
        yield from selector.keys_among("selector of clusters", [SELECTOR])
        name = selector.at(SELECTOR).value
        if name not in clusters:
            yield selector.unknown("RayCluster", str(name), clusters)


def service_faults(document: Place, cast: Cast) -> Iterator[Fault]:
    """What is wrong with a RayService's serveConfigV2, and between it and the cluster."""
    place = document.at("spec", "serveConfigV2")
    try:
        values = yaml.load(str(place.value), yaml.CSafeLoader)
    except yaml.YAMLError as error:
        yield place.fault(f"is no YAML: {' '.join(str(error).split())}")
        return
    config = Place(document.file, place.path + ": ", values)
    found = list(faults_by(_strict_serve_schema(), config))
    if not found:
        found = list(_by_serve_itself(config))
    yield from found
    if found:
        return
    asked: set[str] = set()
    for application in config.at("applications").each():
        arguments: EntryArgs | None = None
        try:
            arguments = _entry_args(application)
        except IfmdmError as error:
            yield application.fault(error.what, error.fix)
        for deployment in application.at("deployments").each():
            name = str(application.at("import_path").value).rpartition(":")[2]
            if deployment.at("name").value != name:
                yield deployment.unknown("deployment", str(deployment.at("name").value), [name])
            asked |= set(deployment.at("ray_actor_options", "resources").value)
        for path in _paths(application.at("args").value):
            for pod in pods_of(document):
                yield from pod.file_faults(application.at("args"), path, cast)
        if arguments is not None:
            serve = arguments.serve
            kinds = {stage.accelerator for stage in (serve.speech, serve.motion, serve.decoder)}
            asked |= {f"accelerator_type:{kind}" for kind in kinds if kind is not None}
            yield from _grace_faults(document, arguments)
    yield from _resource_faults(document, asked)


def _resource_faults(document: Place, asked: set[str]) -> Iterator[Fault]:
    """Custom resources: what actors ask for some group has, and what groups have somebody asks for."""
    offered: set[str] = set()
    for group in groups_of(document):
        yield from group.at("resources").keys_among("resource (no actor asks for it)", asked)
        offered |= set(group.at("resources").value)
    for name in sorted(asked - offered):
        yield document.at("spec", "serveConfigV2").fault(
            f"no group of nodes has the resource {name!r}", nearest(name, offered)
        )


def _grace_faults(document: Place, arguments: EntryArgs) -> Iterator[Fault]:
    serve = arguments.serve
    needed = max(
        serve.speech.grace_s,
        serve.motion.grace_s,
        serve.decoder.grace_s,
        serve.gateway.grace_s + 5,
        LEAVE_S + 10,
    )
    for group in groups_of(document)[1:]:
        pod = group.at("template", "spec")
        words = pod.at("containers", 0, "lifecycle", "preStop", "exec", "command").value
        deadline = int(words[-1]) if isinstance(words, list) and str(words[-1]).isdecimal() else 0
        ends = pod.at("terminationGracePeriodSeconds").value
        if deadline < needed:
            yield pod.fault(f"its drain ends after {deadline} s, a replica's grace after {needed:g} s")
        if not isinstance(ends, int) or ends < deadline + MARGIN_S:
            yield pod.fault(
                f"terminationGracePeriodSeconds is {ends}",
                f"its drain may take {deadline} s: {deadline + MARGIN_S}",
            )


def _entry_args(application: Place) -> EntryArgs:
    """Raises BadInput where it cannot be imported, or does not take these arguments."""
    from ifmdm_core.config import validate
    from ifmdm_core.errors import BadInput

    path = str(application.at("import_path").value)
    module, _, name = path.partition(":")
    try:
        imported = importlib.import_module(module)
    except ImportError as error:
        raise BadInput(f"import_path {path!r}: {error}") from None
    builders = [
        key for key, value in vars(imported).items() if inspect.isfunction(value) and value.__module__ == module
        and not key.startswith("_")
    ]  # fmt: skip
    if name not in builders:
        raise BadInput(f"import_path {path!r}: {module} has no {name!r}", fix=nearest(name, builders))
    return validate(EntryArgs, application.at("args").value, "args")


def _by_serve_itself(config: Place) -> Iterator[Fault]:
    from pydantic import ValidationError
    from ray.serve.schema import ServeDeploySchema

    try:
        ServeDeploySchema.model_validate(config.value)
    except ValidationError as error:
        for each in error.errors():
            yield config.at(*each["loc"]).fault(each["msg"])


@cache
def _strict_serve_schema() -> Any:
    """Serve's own schema. It lets unknown keys pass, for configurations of later versions; here they are refused."""
    from jsonschema import Draft202012Validator
    from ray.serve.schema import ServeDeploySchema

    schema = ServeDeploySchema.model_json_schema()

    def strict(part: Any) -> None:
        if isinstance(part, dict):
            if isinstance(part.get("properties"), dict):
                part["additionalProperties"] = False
            for each in part.values():
                strict(each)
        elif isinstance(part, list):
            for each in part:
                strict(each)

    strict(schema)
    return Draft202012Validator(schema)


def _paths(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for each in value.values() if isinstance(value, dict) else value:
            yield from _paths(each)
