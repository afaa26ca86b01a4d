"""Take damaged files out of the manifest, so that the next run makes them again and readers stop meeting them."""

from __future__ import annotations

from collections.abc import Sequence

from ifmdm_core.errors import Conflict
from pipelines.dataset.dataset import Dataset
from pipelines.dataset.manifest import FileRef, Manifest, ShardEntry, commit
from pipelines.dataset.quarantine import look_again
from pipelines.inspect.verify import Damage


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
        def listed(refs: dict[str, FileRef]) -> dict[str, FileRef]:
            return {name: ref for name, ref in refs.items() if (ref.key, ref.sha256) not in harmed}

        generations = {
            name: g.model_copy(update={"shards": whole(g.shards)}) for name, g in manifest.generations.items()
        }
        features = {
            name: s.model_copy(update={"shards": whole(s.shards)}) for name, s in manifest.features.items()
        }
        rest = manifest.model_copy(
            update={
                "generations": generations,
                "features": features,
                "selections": listed(manifest.selections),
            }
        )
        # Without its records a shard would pass for one where nothing was refused.
        lost = set(manifest.quarantine) - set(listed(manifest.quarantine))
        return look_again(rest, dict.fromkeys(lost))

    return Dataset(dataset.storage, commit(dataset.storage, change))
