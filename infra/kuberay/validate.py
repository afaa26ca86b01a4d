"""python -m infra.kuberay.validate [FOLDER]: every manifest, before a cluster sees it.

Checked are names and types of all fields (manifests.schema.json), what manifests refer to (volumes, secrets,
ConfigMaps, accounts, labels, ports), serveConfigV2 by Serve's own schema and by ours, commands by the programs that
will read them, configurations in ConfigMaps by our models, and that nothing may run as root. One line a fault: file,
field, reason, nearest name. Exit code 0 where there is none, else 1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel

from ifmdm_core.config import validate
from ifmdm_core.errors import BadInput, nearest
from infra.kuberay.clusters import cluster_faults, job_faults, service_faults
from infra.kuberay.faults import Fault, Place
from infra.kuberay.known import LABELS
from infra.kuberay.pods import SECRETS, Cast, pod_faults, pods_of
from infra.kuberay.render import KUSTOMIZATION, Document, Files, read, rendered
from infra.kuberay.selectors import selector_faults
from infra.kuberay.shapes import shape_faults

JOBS = "jobs/"
"""Objects that are created one by one, on what `base` has."""
BASE = "base"


@cache
def settings_models() -> dict[tuple[str, str], type[BaseModel]]:
    """(ConfigMap, key) → the model of whoever reads it."""
    from pipelines.dataset.parameters import ClipParameters
    from pipelines.training.stages import STAGES, stage_named

    training = {("ifmdm-training", f"{name}.yaml"): stage_named(name).config for name in STAGES}
    return {("ifmdm-clips", "clips.yaml"): ClipParameters, **training}


def faults(files: Files) -> list[Fault]:
    """Everything that is wrong, without repetitions."""
    folders = [name.removesuffix(f"/{KUSTOMIZATION}") for name in files if name.endswith(f"/{KUSTOMIZATION}")]
    jobs = [Document(name, each) for name, each in _jobs(files)]
    found: list[Fault] = []
    for folder in folders:
        try:
            objects = rendered(files, folder)
        except BadInput as error:
            found.append(Fault(error.field or folder, folder, error.what, error.fix))
            continue
        found += _set_faults([*objects, *jobs], files.get(SECRETS, [{}])[0], everything=folder == BASE)
    return list(dict.fromkeys(found))


def _jobs(files: Files) -> Iterator[tuple[str, Any]]:
    return ((name, each) for name, documents in files.items() if name.startswith(JOBS) for each in documents)


def _set_faults(documents: list[Document], secrets: Any, everything: bool) -> Iterator[Fault]:
    """Faults of objects that are there together; `everything`: whether all secrets should be used by them."""
    places = [
        Place(each.file, f"{each.kind}/{each.name} ", each.value)
        for each in documents
        if isinstance(each.value, dict)
    ]
    if len(places) < len(documents):
        yield Fault(documents[0].file, "", "holds something that is no object")
    shapes = list(chain.from_iterable(map(shape_faults, places)))
    yield from shapes
    names = [(place.value.get("kind"), place.at("metadata", "name").value) for place in places]
    for place, name in zip(places, names, strict=True):
        if names.count(name) > 1:
            yield place.fault("is there twice")
    if shapes:  # what follows relies on types
        return
    cast = Cast(
        accounts={str(name) for kind, name in names if kind == "ServiceAccount"},
        settings={
            str(p.at("metadata", "name").value): set(p.at("data").value) for p in _of(places, "ConfigMap")
        },
        secrets={str(name): set(keys) for name, keys in secrets.items()},
    )
    clusters = {str(p.at("metadata", "name").value): p for p in _of(places, "RayCluster")}
    pods = list(chain.from_iterable(map(pods_of, places)))
    for place in places:
        yield from place.at("metadata", "labels").keys_among("label", LABELS)
        yield from place.at("metadata", "annotations").keys_among("annotation", ())
        yield from selector_faults(place, pods)
        for pod in pods_of(place):
            yield from pod_faults(pod, cast)
        yield from cluster_faults(place, cast)
    for place in _of(places, "RayService"):
        yield from service_faults(place, cast)
    for place in _of(places, "RayJob"):
        wanted = clusters.get(str(place.at("spec", "clusterSelector", "ray.io/cluster").value))
        inside = pods_of(wanted) if wanted is not None else [pod for pod in pods_of(place) if pod.ray]
        yield from job_faults(place, list(clusters), inside, cast)
    for place in _of(places, "ConfigMap"):
        yield from _settings_faults(place)
    if everything:
        yield from _secret_faults(cast)


def _settings_faults(place: Place) -> Iterator[Fault]:
    name, models = str(place.at("metadata", "name").value), settings_models()
    for key, text in place.at("data").value.items():
        at = place.at("data", key)
        if (name, key) not in models:
            known = [each for owner, each in models if owner == name]
            yield at.fault("nobody reads this", nearest(key, known))
            continue
        try:
            validate(models[name, key], yaml.load(text, yaml.CSafeLoader), "")
        except (BadInput, yaml.YAMLError) as error:
            yield at.fault(getattr(error, "what", str(error)), getattr(error, "fix", ""))


def _secret_faults(cast: Cast) -> Iterator[Fault]:
    for name, keys in cast.secrets.items():
        for key in sorted(keys):
            place = Place(SECRETS, f"{name}.{key}", None)
            if (name, key) not in cast.used:
                yield place.fault(
                    "nothing refers to it", nearest(key, [k for n, k in cast.used if n == name])
                )


def _of(places: list[Place], kind: str) -> list[Place]:
    return [place for place in places if place.value.get("kind") == kind]


def main(arguments: list[str] | None = None) -> int:
    """See the module."""
    given = sys.argv[1:] if arguments is None else arguments
    folder = Path(given[0]) if given else Path(__file__).parent
    try:
        files = read(folder)
        found = faults(files) if files else [Fault(str(folder), "", "has no manifests")]
    except BadInput as error:
        found = [Fault(str(folder), "", error.what, error.fix)]
    for fault in found:
        print(fault)
    objects = sum(map(len, files.values())) if not found else 0
    print(f"{len(found)} faults" if found else f"{objects} objects in {len(files)} files: no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
