"""One host of three cut off in the middle of an extraction, a training or render jobs: nothing may be lost.

    python -m tests.cluster.hosts.cuts --seeds 0:3 --log docs/chaos-hosts.log

Figures of a cut, in seconds from it: until the host counted as lost, until the link was healed, until the host was back
in the cluster, and until there was progress after the loss.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from tests.cluster.hosts.extraction import Extraction
from tests.cluster.hosts.jobs import Jobs
from tests.cluster.hosts.place import Place
from tests.cluster.hosts.steps import Cut
from tests.cluster.hosts.training import Training
from tests.crash.reporting import arguments_of, report
from tests.tiny_bundle import make_tiny_bundle


class Work:
    """The three kinds of work on one cluster: what undisturbed ones end with, and the same with a cut."""

    def __init__(self, place: Place) -> None:
        # A training of stage 2 needs a lip map, which the tiny bundle has not.
        self._extraction = Extraction(place, "demo")
        self._extraction.make("whole")
        self._training = Training(place, self._extraction.uri("whole"), "demo")
        self._training.train("whole")
        self.jobs = Jobs(place, make_tiny_bundle(place.folder / "tiny"))

    def cut(self, cut: Cut) -> dict[str, object]:
        """The phase of a cut with it; what was seen. Raises AssertionError where anything got lost or doubled."""
        work = {"extraction": self._extract, "training": self._train, "jobs": self.jobs.render}[cut.phase]
        return {"seed": cut.seed, "phase": cut.phase, "step": cut.step, **work(f"cut{cut.seed}", cut)}

    def _extract(self, name: str, cut: Cut) -> dict[str, object]:
        seen = self._extraction.make(name, cut)
        content = self._extraction.content(name)
        assert content == self._extraction.content("whole"), "other bytes than undisturbed"
        return {**seen, "content": content[:12]}

    def _train(self, name: str, cut: Cut) -> dict[str, object]:
        seen = self._training.train(name, cut)
        weights = self._training.weights(name)
        assert weights == self._training.weights("whole"), "other weights than undisturbed"
        assert self._training.losses(name) == self._training.losses("whole"), "another curve than undisturbed"
        return {**seen, "sha256": next(iter(weights.values()))[:12]}


def run_all(seeds: range) -> Iterator[dict[str, object]]:
    """Reports of the seeds' cuts. All three kinds of work are done, be there a cut in each or not."""
    cuts = [Cut.draw(seed) for seed in seeds]
    with Place() as place:
        work = Work(place)
        for cut in cuts:
            yield work.cut(cut)
        if all(cut.phase != "jobs" for cut in cuts):
            work.jobs.render("whole")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments, seeds = arguments_of(parser, "0:3")
    report(seeds, run_all(seeds), "nothing lost and nothing doubled", arguments.log)


if __name__ == "__main__":
    main()
