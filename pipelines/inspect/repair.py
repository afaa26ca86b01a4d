"""Take damaged files out of the manifest, so that the next run makes them again and readers stop meeting them."""

from __future__ import annotations

from collections.abc import Sequence

from ifmdm_core.errors import Conflict
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import Manifest, ShardEntry, commit
from pipelines.inspect.verify import Damage

LOOK_AGAIN = "retry"
"""`inputs` of a shard that the next run goes through again: good rows are copied, lost records are found anew."""


def repair(dataset: Dataset, damage: Sequence[Damage]) -> Dataset:
    """Commit a manifest without the damaged shards, selections and quarantine lists; nothing is deleted.

    A file that someone has replaced in the manifest since is left alone.

    Raises:
        Conflict: a plan is damaged. It is not made of anything else here, so it must come back from a copy.
    """
    harmed = {(d.ref.key, d.ref.sha256) for d in damage}
    for name, generation in dataset.manifest.generations.items():
        if (generation.plan.key, generation.plan.sha256) in harmed:
            raise Conflict(
                f"{generation.plan.key} is damaged: the plan of generation {name} cannot be made again",
                fix="restore that file from a copy, or cut the sources into a new dataset",
            )

    def whole(shards: dict[str, ShardEntry]) -> dict[str, ShardEntry]:
        return {name: entry for name, entry in shards.items() if (entry.key, entry.sha256) not in harmed}

    def change(manifest: Manifest) -> Manifest:
        lost = [name for name, ref in manifest.quarantine.items() if (ref.key, ref.sha256) in harmed]
        generations = {
            name: g.model_copy(update={"shards": _looked_at_again(whole(g.shards), lost)})
            for name, g in manifest.generations.items()
        }
        features = {
            name: s.model_copy(update={"shards": whole(s.shards)}) for name, s in manifest.features.items()
        }
        selections = {
            name: ref for name, ref in manifest.selections.items() if (ref.key, ref.sha256) not in harmed
        }
        quarantine = {name: ref for name, ref in manifest.quarantine.items() if name not in lost}
        return manifest.model_copy(
            update={
                "generations": generations,
                "features": features,
                "selections": selections,
                "quarantine": quarantine,
            }
        )

    return Dataset(dataset.storage, commit(dataset.storage, change))


def _looked_at_again(shards: dict[str, ShardEntry], lost: Sequence[str]) -> dict[str, ShardEntry]:
    """Entries of the clip shards whose quarantine list (`clips/<shard>`) is lost, marked."""
    marked = {name.rpartition("/")[2] for name in lost if name.startswith("clips/")}
    return {
        name: entry.model_copy(update={"inputs": LOOK_AGAIN}) if name in marked else entry
        for name, entry in shards.items()
    }
