"""Labels that one object uses to find others: each selector finds some pod, each port is one of theirs."""

from __future__ import annotations

from collections.abc import Iterator

from ifmdm_core.errors import nearest
from infra.kuberay.faults import Fault, Place
from infra.kuberay.known import LABELS, NAMESPACE_LABELS
from infra.kuberay.pods import Pod


def selector_faults(document: Place, pods: list[Pod]) -> Iterator[Fault]:
    """Faults of an object's selectors; `pods`: all there are."""
    kind, spec = document.value.get("kind"), document.at("spec")
    if kind == "Service":
        yield from _service_faults(spec, pods)
    elif kind == "Deployment":
        yield from _faults(spec.at("selector"), [Pod(spec.at("template"))])
    elif kind == "PodDisruptionBudget":
        yield from _faults(spec.at("selector"), pods)
    elif kind == "NetworkPolicy":
        yield from _faults(spec.at("podSelector"), pods)
        for side, peers in (("ingress", "from"), ("egress", "to")):
            for rule in spec.at(side).each():
                for peer in rule.at(peers).each():
                    yield from _peer_faults(peer, pods)


def _service_faults(spec: Place, pods: list[Pod]) -> Iterator[Fault]:
    selector = spec.at("selector")
    yield from _faults(Place(selector.file, selector.path, {"matchLabels": selector.value}), pods)
    found = [pod for pod in pods if selector.value.items() <= pod.labels.items()]
    for port in spec.at("ports").each():
        target = port.value.get("targetPort", port.value.get("port"))
        for pod in found:
            if target not in pod.ports():
                names = map(str, pod.ports())
                yield port.fault(f"no container of its pods has port {target!r}", nearest(str(target), names))


def _peer_faults(peer: Place, pods: list[Pod]) -> Iterator[Fault]:
    spaces = peer.at("namespaceSelector")
    yield from spaces.at("matchLabels").keys_among("label of namespaces", NAMESPACE_LABELS)
    if "podSelector" in peer.value:
        yield from _faults(peer.at("podSelector"), None if "namespaceSelector" in peer.value else pods)


def _faults(selector: Place, pods: list[Pod] | None) -> Iterator[Fault]:
    """`pods` is None where those of other people are meant."""
    labels = selector.at("matchLabels")
    wrong = list(labels.keys_among("label", LABELS))
    for each in selector.at("matchExpressions").each():
        key = str(each.at("key").value)
        if key not in LABELS:
            wrong.append(each.unknown("label", key, LABELS))
        if each.at("operator").value not in ("In", "NotIn"):
            wrong.append(each.unknown("operator", str(each.at("operator").value), ("In", "NotIn")))
    yield from wrong
    if not wrong and pods is not None and not any(_selects(selector, pod.labels) for pod in pods):
        yield selector.fault("selects no pod")


def _selects(selector: Place, labels: dict[str, str]) -> bool:
    wanted = selector.at("matchLabels").value
    if not wanted.items() <= labels.items():
        return False
    for each in selector.at("matchExpressions").each():
        inside = labels.get(each.at("key").value) in each.at("values").value
        if inside != (each.at("operator").value == "In"):
            return False
    return True
