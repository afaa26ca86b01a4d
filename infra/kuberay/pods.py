"""Pods wherever they are described: what they mount, run, ask for, and may do."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache

from ifmdm_core.errors import IfmdmError, nearest
from infra.kuberay import known
from infra.kuberay.commands import check, check_line
from infra.kuberay.faults import Fault, Place

SECRETS = "secrets.yaml"
QUANTITY = re.compile(r"\d+(\.\d+)?(m|k|Ki|M|Mi|G|Gi|T|Ti)?")


@dataclass
class Cast:
    """What manifests may refer to, and what of it has been referred to."""

    accounts: set[str]
    settings: dict[str, set[str]]
    """ConfigMap → its keys."""
    secrets: dict[str, set[str]]
    used: set[tuple[str, str]] = field(default_factory=set)
    """(secret, key)"""

    def secret(self, place: Place, name: str, key: str | None = None) -> Iterator[Fault]:
        """A secret is referred to; one of its keys, or all of them."""
        if name not in self.secrets:
            yield place.unknown(f"secret (of {SECRETS})", name, self.secrets)
        elif key is not None and key not in self.secrets[name]:
            yield place.unknown(f"key of secret {name}", key, self.secrets[name])
        else:
            self.used |= {(name, each) for each in ([key] if key else self.secrets[name])}


@dataclass(frozen=True)
class Pod:
    """One pod template."""

    place: Place
    ray: bool = False
    """Whether its first container is a Ray node, whose command KubeRay writes."""

    @property
    def labels(self) -> dict[str, str]:
        found = self.place.at("metadata", "labels").value
        return found if isinstance(found, dict) else {}

    @property
    def containers(self) -> list[Place]:
        return list(self.place.at("spec", "containers").each())

    def ports(self) -> set[object]:
        """Numbers and names."""
        listed = [port.value for each in self.containers for port in each.at("ports").each()]
        found = {
            port.get(name) for port in listed if isinstance(port, dict) for name in ("name", "containerPort")
        }
        return found | ({known.RAY_AGENT_PORT} if self.ray else set())

    def mounts(self) -> dict[str, dict[str, str]]:
        """Mount path → the volume's source: {"secret": name} or {"configMap": name}, or nothing of both."""
        sources: dict[str, dict[str, str]] = {}
        for volume in self.place.at("spec", "volumes").each():
            value = volume.value if isinstance(volume.value, dict) else {}
            source = {
                kind: str(value[kind].get(name))
                for kind, name in (("secret", "secretName"), ("configMap", "name"))
                if isinstance(value.get(kind), dict)
            }
            sources[str(value.get("name"))] = source
        return {
            str(mount.value.get("mountPath")): sources.get(str(mount.value.get("name")), {})
            for each in self.containers
            for mount in each.at("volumeMounts").each()
            if isinstance(mount.value, dict)
        }

    def file_faults(self, place: Place, path: str, cast: Cast) -> Iterator[Fault]:
        """Whether a file that something in this pod wants to read is mounted there."""
        if not path.startswith("/etc/"):
            return
        mounts = self.mounts()
        folder, _, name = path.rpartition("/")
        if folder not in mounts:
            yield place.fault(f"nothing is mounted for {path!r}", nearest(folder, mounts))
        elif (secret := mounts[folder].get("secret")) is not None:
            yield from cast.secret(place, secret, name)
        elif (settings := mounts[folder].get("configMap")) in cast.settings and name not in cast.settings[
            settings
        ]:
            yield place.unknown(f"key of ConfigMap {settings}", name, cast.settings[settings])


def pods_of(document: Place) -> list[Pod]:
    """Every pod that an object describes."""
    kind = document.value.get("kind")
    spec = document.at("spec")
    if kind == "Deployment":
        return [Pod(spec.at("template"))]
    found = [Pod(group.at("template"), ray=True) for group in groups_of(document)]
    if kind == "RayJob" and isinstance(spec.value, dict) and "submitterPodTemplate" in spec.value:
        found.append(Pod(spec.at("submitterPodTemplate")))
    return found


def cluster_of(document: Place) -> Place | None:
    """The description of the Ray cluster in an object, if it has one."""
    name = {
        "RayService": ("spec", "rayClusterConfig"),
        "RayCluster": ("spec",),
        "RayJob": ("spec", "rayClusterSpec"),
    }
    way = name.get(str(document.value.get("kind")))
    found = document.at(*way) if way else None
    return found if found is not None and found.value else None


def groups_of(document: Place) -> list[Place]:
    """Head and worker groups of its Ray cluster."""
    cluster = cluster_of(document)
    return [] if cluster is None else [cluster.at("headGroupSpec"), *cluster.at("workerGroupSpecs").each()]


def pod_faults(pod: Pod, cast: Cast) -> Iterator[Fault]:
    """What is wrong with one pod, its fields' names and types aside."""
    spec = pod.place.at("spec")
    yield from pod.place.at("metadata", "labels").keys_among("label", known.LABELS)
    yield from pod.place.at("metadata", "annotations").keys_among("annotation", ())
    yield from spec.at("nodeSelector").keys_among("label of nodes", known.NODE_LABELS)
    for taint in spec.at("tolerations").each():
        if taint.at("key").value not in known.TAINTS:
            yield taint.unknown("taint", str(taint.at("key").value), known.TAINTS)
    account = spec.at("serviceAccountName")
    if account.value not in cast.accounts:
        yield account.unknown("service account", str(account.value), cast.accounts)
    if spec.at("securityContext", "runAsNonRoot").value is not True:
        yield spec.fault("may run as root", "securityContext.runAsNonRoot: true")
    yield from _volume_faults(pod, cast)
    for container in pod.containers:
        yield from _container_faults(pod, container, cast)


def _volume_faults(pod: Pod, cast: Cast) -> Iterator[Fault]:
    volumes = {str(each.at("name").value): each for each in pod.place.at("spec", "volumes").each()}
    mounted: set[str] = set()
    for container in pod.containers:
        for mount in container.at("volumeMounts").each():
            name = str(mount.at("name").value)
            mounted.add(name)
            if name not in volumes:
                yield mount.unknown("volume", name, volumes)
    for name, volume in volumes.items():
        if name not in mounted:
            yield volume.fault(f"nobody mounts the volume {name!r}")
        if isinstance(volume.at("secret").value, dict) and "secret" in volume.value:
            secret = str(volume.at("secret", "secretName").value)
            if secret not in cast.secrets:
                yield volume.unknown(f"secret (of {SECRETS})", secret, cast.secrets)
        elif "configMap" in volume.value:
            settings = str(volume.at("configMap", "name").value)
            if settings not in cast.settings:
                yield volume.unknown("ConfigMap", settings, cast.settings)
        elif "emptyDir" not in volume.value and "persistentVolumeClaim" not in volume.value:
            yield volume.fault("has no source", "emptyDir, secret, configMap or persistentVolumeClaim")


def _container_faults(pod: Pod, container: Place, cast: Cast) -> Iterator[Fault]:
    for variable in container.at("env").each():
        name = str(variable.at("name").value)
        if name not in known.ENVIRONMENT:
            yield variable.unknown("environment variable", name, known.ENVIRONMENT)
        wanted = variable.at("valueFrom", "secretKeyRef")
        if wanted.value:
            yield from cast.secret(wanted, str(wanted.at("name").value), str(wanted.at("key").value))
    for source in container.at("envFrom").each():
        secret = str(source.at("secretRef", "name").value)
        yield from cast.secret(source, secret)
        for name in cast.secrets.get(secret, ()):
            if name not in known.ENVIRONMENT:
                yield source.unknown(f"environment variable (of secret {secret})", name, known.ENVIRONMENT)
    yield from locked_faults(container)
    yield from resource_faults(container.at("resources"))
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        yield from _probe_faults(pod, container.at(probe))
    for moment in ("preStop", "postStart"):
        words = container.at("lifecycle", moment, "exec", "command")
        if words.value:
            yield from command_faults(words, words.value)
    command, arguments = container.at("command"), container.at("args")
    line = [*_list(command), *_list(arguments)]
    if line:
        yield from command_faults(command, line)
        for word in line:
            yield from pod.file_faults(command, word.rpartition("=")[2], cast)


def locked_faults(container: Place) -> Iterator[Fault]:
    """What a container may do that none of ours needs."""
    context = container.at("securityContext")
    if context.at("readOnlyRootFilesystem").value is not True:
        yield context.fault("its files may be changed", "readOnlyRootFilesystem: true")
    if context.at("allowPrivilegeEscalation").value is not False:
        yield context.fault("its processes may gain rights", "allowPrivilegeEscalation: false")
    if context.at("capabilities", "drop").value != ["ALL"]:
        yield context.fault("has capabilities", "capabilities: {drop: [ALL]}")


def resource_faults(place: Place) -> Iterator[Fault]:
    """Requests and limits: both there, known, and of a form that Kubernetes reads."""
    for side in ("requests", "limits"):
        given = place.at(side)
        yield from given.keys_among("resource", known.RESOURCES)
        for name in ("cpu", "memory"):
            if name not in (given.value or {}):
                yield given.fault(f"says nothing of {name}")
        for value in given.each():
            if not QUANTITY.fullmatch(str(value.value)):
                yield value.fault(f"{value.value!r} is no quantity", "such as 500m, 2, 8Gi")


def command_faults(place: Place, words: object) -> Iterator[Fault]:
    """A command that the program it names would refuse; a text is a line for a shell."""
    text = words if isinstance(words, str) else "\0".join(map(str, words if isinstance(words, list) else []))
    wrong = _refused(text, isinstance(words, str))
    if wrong is not None:
        yield place.fault(*wrong)


@cache
def _refused(text: str, line: bool) -> tuple[str, str] | None:
    try:
        if line:
            check_line(text)
        else:
            check(text.split("\0"))
    except IfmdmError as error:
        return error.what, error.fix
    return None


def _probe_faults(pod: Pod, probe: Place) -> Iterator[Fault]:
    for kind in ("httpGet", "tcpSocket"):
        port = probe.at(kind, "port")
        if probe.at(kind).value and port.value not in pod.ports():
            yield port.fault(
                f"no container listens on {port.value!r}", nearest(str(port.value), map(str, pod.ports()))
            )
    path = probe.at("httpGet", "path")
    if probe.at("httpGet").value and path.value not in known.PROBES:
        yield path.unknown("path of a probe", str(path.value), known.PROBES)


def _list(place: Place) -> list[str]:
    return [str(each) for each in place.value] if isinstance(place.value, list) else []
