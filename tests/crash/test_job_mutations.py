"""Known mistakes in the code of render jobs turn the schedules red; which of them are tried, the commit decides.

`python -m tests.crash.jobs.mutations` tries all of them.
"""

from __future__ import annotations

import random

import pytest

from tests.crash.jobs.mutations import MUTATIONS, Mutation, look, mutated
from tests.crash.reporting import seeds_of_this_commit

TRIED = random.Random(seeds_of_this_commit(1).start).sample(MUTATIONS, 5)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_can_be_put_in(mutation: Mutation) -> None:
    with mutated(mutation) as tree:
        compile((tree / "jobs" / mutation.file).read_text(), mutation.file, "exec")


@pytest.mark.parametrize("mutation", TRIED, ids=lambda mutation: mutation.name)
def test_a_mistake_is_seen(mutation: Mutation) -> None:
    seen = look(mutation)
    assert seen.seeds, f"{mutation.name}: no schedule is red"
