"""Who may publish where: outputs/<hh>/<sha256 of URI>/<n>.json, created once each, never changed.

The highest number has the right. A job keeps the number it was accepted with and finds out, before it publishes,
whether another job was given a higher one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from ifmdm_core.errors import Conflict, Forbidden, NotFound, Unavailable, Unsupported
from jobs.names import JobRef, output_folder, output_holder
from jobs.store import JobStore

ABANDONED_S = 3600.0
"""Age, by the store's clock, at which a right whose job never got its spec counts for nothing."""
RESUMED_S = 1800.0
"""Age up to which a submit that is repeated goes on with the right it took before. Well below the age at which others
pass over it, and at which the marker put then may be taken away."""
ROUNDS = 16


class Holder(BaseModel):
    """One right to publish."""

    model_config = ConfigDict(extra="ignore")  # a later version may say more

    layout: int = 1
    tenant: str
    id: str
    at: float
    """Seconds since 1970 at which the job was submitted, as its submitter's clock has it."""
    nonce: str

    @property
    def ref(self) -> JobRef:
        return JobRef(self.tenant, self.id)


@dataclass(frozen=True)
class Right:
    """What a submit goes on with."""

    number: int
    at: float
    """See `Holder.at`; the same for all who submit the same job at once, so that they make one marker."""


def take(store: JobStore, ref: JobRef, output: str, number: int) -> Right | None:
    """The `number`-th right to publish at `output`, for the first who asks. Raises Unavailable as `create_once`."""
    holder = Holder(tenant=ref.tenant, id=ref.id, at=store.clock.now(), nonce=store.nonce())
    won = store.create_once(output_holder(output, number), holder.model_dump_json().encode(), holder.nonce)
    return Right(number, holder.at) if won else None


def take_next(store: JobStore, ref: JobRef, output: str, overwrite: bool) -> Right:
    """The right to publish where another job had it, or where an earlier submit of `ref` took it and died.

    Args:
        overwrite: whether to take it from a job that may still publish.

    Raises Conflict for an output that another job is to fill, Unavailable.
    """
    for _ in range(ROUNDS):
        number = _last(store, output)
        if number > 0:
            try:
                holder = read_holder(store, output, number)
            except NotFound:
                continue  # cleaned up right now
            if holder.ref != ref:
                if not overwrite:
                    _require_over(store, ref, holder, output, number)
            elif _age(store, output, number) < RESUMED_S:
                return Right(number, holder.at)
        if (right := take(store, ref, output, number + 1)) is not None:
            return right
    raise Unavailable(f"output {output}: many submit jobs for it right now", fix="try again", retry_after=5.0)


def read_holder(store: JobStore, output: str, number: int) -> Holder:
    """Who has that right. Raises NotFound, Conflict for something else there."""
    key = output_holder(output, number)
    try:
        return Holder.model_validate(json.loads(store.storage.get(key)))
    except (ValueError, ValidationError):
        raise Conflict(f"{key} is damaged", fix="ifmdm jobs fsck says more") from None


def given_on(store: JobStore, ref: JobRef, output: str, number: int) -> JobRef | None:
    """The other job that was given the right to publish at `output` after `ref` got its `number`-th; None: nobody."""
    for later in _numbers(store, output):
        if later > number and (found := read_holder(store, output, later).ref) != ref:
            return found
    return None


def _require_over(store: JobStore, ref: JobRef, holder: Holder, output: str, number: int) -> None:
    """Raises Conflict while the holder's job may still publish."""
    try:
        view = store.view(holder.ref)
        record = view.record or store.record(holder.ref)
    except NotFound:
        if _age(store, output, number) > ABANDONED_S:
            return
        raise Conflict(
            f"output {output} was just taken by another submit, which has not ended",
            fix="wait an hour if that one has died, choose another output, or set if_exists to overwrite",
        ) from None
    except (Forbidden, Conflict, Unsupported):
        raise Conflict(
            f"output {output} belongs to another job, which cannot be read", fix="choose another output"
        ) from None
    if view.state.terminal or record.job.output != output:
        return
    whose = f"job {holder.id}" if holder.tenant == ref.tenant else "another tenant's job"
    raise Conflict(
        f"output {output} belongs to {whose}, which is {view.state.state}",
        fix="choose another output, or set if_exists to overwrite",
    )


def _age(store: JobStore, output: str, number: int) -> float:
    age = store.storage.age(output_holder(output, number))
    return float("inf") if age is None else age


def _last(store: JobStore, output: str) -> int:
    return max(_numbers(store, output), default=0)


def _numbers(store: JobStore, output: str) -> list[int]:
    folder = output_folder(output)
    names = (item.key[len(folder) :].removesuffix(".json") for item in store.storage.list(folder))
    return [int(name) for name in names if name.isdigit()]
