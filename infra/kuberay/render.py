"""What `kubectl kustomize` makes of a folder: resources, JSON 6902 patches, namespace, images; nothing else is used."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.config import validate
from ifmdm_core.errors import BadInput, nearest

KUSTOMIZATION = "kustomization.yaml"

Files = dict[str, list[Any]]
"""Path below the folder that is checked → its documents."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Image(_Strict):
    name: str
    new_name: str = Field(alias="newName")
    new_tag: str = Field(alias="newTag")


class Target(_Strict):
    group: str = ""
    version: str
    kind: str
    name: str


class Patch(_Strict):
    path: str
    target: Target


class Kustomization(_Strict):
    api_version: Literal["kustomize.config.k8s.io/v1beta1"] = Field(alias="apiVersion")
    kind: Literal["Kustomization"]
    namespace: str
    resources: list[str]
    images: list[Image] = []
    patches: list[Patch] = []


class Operation(_Strict):
    """One of RFC 6902."""

    op: Literal["add", "replace", "remove"]
    path: str
    value: Any = None


@dataclass(frozen=True)
class Document:
    """One object, and the file it comes from."""

    file: str
    value: Any

    @property
    def kind(self) -> str:
        return str(self.value.get("kind")) if isinstance(self.value, dict) else ""

    @property
    def api(self) -> str:
        return str(self.value.get("apiVersion")) if isinstance(self.value, dict) else ""

    @property
    def name(self) -> str:
        metadata = self.value.get("metadata") if isinstance(self.value, dict) else None
        return str(metadata.get("name")) if isinstance(metadata, dict) else ""


def read(folder: Path) -> Files:
    """Every YAML file below a folder. Raises BadInput for one that is no YAML."""
    files: Files = {}
    for path in sorted(folder.rglob("*.yaml")):
        name = path.relative_to(folder).as_posix()
        try:
            files[name] = [
                each for each in yaml.load_all(path.read_text(), yaml.CSafeLoader) if each is not None
            ]
        except yaml.YAMLError as error:
            raise BadInput(f"{name} is no YAML: {' '.join(str(error).split())}") from None
    return files


def rendered(files: Files, folder: str) -> list[Document]:
    """The objects of a folder's kustomization.

    Raises BadInput, its `field` the file it is about, for what kustomize would refuse or ignore.
    """
    file = str(PurePosixPath(folder) / KUSTOMIZATION)
    (values,) = files[file]
    with _about(file):
        settings = validate(Kustomization, values, file)
    found: list[Document] = []
    for resource in settings.resources:
        place = _inside(PurePosixPath(folder) / resource)
        if f"{place}/{KUSTOMIZATION}" in files:
            found += rendered(files, place)
        elif place in files:
            found += [Document(place, copy.deepcopy(each)) for each in files[place]]
        else:
            with _about(file):
                raise BadInput(f"resources: there is no {resource!r}", fix=nearest(place, files))
    for patch in settings.patches:
        place = _inside(PurePosixPath(folder) / patch.path)
        with _about(file):
            if place not in files:
                raise BadInput(f"patches: there is no {patch.path!r}", fix=nearest(place, files))
            target = _target(found, patch.target)
        with _about(place):
            for number, operation in enumerate(files[place][0]):
                _apply(target.value, validate(Operation, operation, f"operation {number}"))
    for document in found:
        if isinstance(document.value, dict) and document.kind != "Namespace":
            document.value.setdefault("metadata", {})["namespace"] = settings.namespace
        _set_images(document.value, settings.images)
    return found


class _about:
    """Errors inside are about a file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if isinstance(error, BadInput):
            error.field = self.file


def _inside(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == "..":
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def _target(found: list[Document], wanted: Target) -> Document:
    api = f"{wanted.group}/{wanted.version}" if wanted.group else wanted.version
    for document in found:
        if (document.kind, document.name) == (wanted.kind, wanted.name) and document.api == api:
            return document
    names = [f"{document.api} {document.kind} {document.name}" for document in found]
    raise BadInput(
        f"patches: no {api} {wanted.kind} {wanted.name} to patch",
        fix=nearest(f"{api} {wanted.kind} {wanted.name}", names),
    )


def _apply(document: Any, operation: Operation) -> None:
    *way, last = [part.replace("~1", "/").replace("~0", "~") for part in operation.path.split("/")[1:]]
    at = document
    for part in way:
        at = _step(at, part, operation.path)
    if operation.op == "remove":
        _step(at, last, operation.path)
        del at[int(last) if isinstance(at, list) else last]
    elif isinstance(at, list) and operation.op == "add":
        at.insert(len(at) if last == "-" else int(last), operation.value)
    else:
        if operation.op == "replace":
            _step(at, last, operation.path)
        at[int(last) if isinstance(at, list) else last] = copy.deepcopy(operation.value)


def _step(at: Any, part: str, path: str) -> Any:
    if isinstance(at, list) and part.isdecimal() and int(part) < len(at):
        return at[int(part)]
    if isinstance(at, dict) and part in at:
        return at[part]
    names = at if isinstance(at, dict) else [str(number) for number in range(len(at))]
    raise BadInput(f"there is no {part!r} of {path}", fix=nearest(part, map(str, names)))


def _set_images(part: Any, images: list[Image]) -> None:
    """As kustomize does: wherever `containers` or `initContainers` are, in custom resources too."""
    if isinstance(part, list):
        for each in part:
            _set_images(each, images)
    elif isinstance(part, dict):
        for key, each in part.items():
            if key in ("containers", "initContainers") and isinstance(each, list):
                for container in each:
                    for image in images:
                        if isinstance(container, dict) and _name(container.get("image")) == image.name:
                            container["image"] = f"{image.new_name}:{image.new_tag}"
            _set_images(each, images)


def _name(image: Any) -> str:
    """Without tag or digest; the host may have a port."""
    name = str(image).partition("@")[0]
    head, colon, tag = name.rpartition(":")
    return head if colon and "/" not in tag else name
