"""A dataset on S3, made by all hosts: clips cut out of videos, then their features."""

from __future__ import annotations

from pipelines.dataset.manifest import latest
from tests.cluster.hosts.place import Place
from tests.cluster.hosts.steps import Cut, Step, run
from tests.talking_videos import write_talking_video

VIDEOS = 12
SECONDS = 1.6


class Extraction:
    """Datasets of the same videos.

    Args:
        bundle: whose encoders make the features.
    """

    def __init__(self, place: Place, bundle: str) -> None:
        self._place, self._bundle = place, bundle
        videos = place.storage("videos")
        for seed in range(VIDEOS):
            name = f"talk-{seed:02d}.mp4"
            videos.upload(
                name, write_talking_video(place.folder / name, seed, SECONDS + 0.2 * (seed % 3), size=128)
            )

    def make(self, name: str, cut: Cut | None = None) -> dict[str, object]:
        """A dataset at `uri(name)`; what was seen of the cut."""
        seen: dict[str, object] = {}
        for step in (self._clips(name), self._features(name)):
            here = cut if cut is not None and step.name.startswith(cut.step) else None
            told = run(self._place, step, here)
            seen = told if here is not None else seen
        self._place.ifmdm("data", "verify", self.uri(name))
        return seen

    def uri(self, name: str) -> str:
        return f"s3://renders/{name}"

    def content(self, name: str) -> str:
        """Digest of every shard: equal digests, equal bytes.

        Raises AssertionError where a clip or one of its features is missing.
        """
        manifest = latest(self._place.storage(name))
        (generation,) = manifest.generations.values()
        assert sum(shard.rows for shard in generation.shards.values()) == VIDEOS
        assert len(manifest.features) == 2
        for features in manifest.features.values():
            rows = sum(shard.rows for shard in features.shards.values())
            assert (rows, sum(shard.holes for shard in features.shards.values())) == (VIDEOS, 0), (
                features.name
            )
        return manifest.content

    def _clips(self, name: str) -> Step:
        command = ("data", "clips", "s3://renders/videos", self.uri(name), "--shard-seconds", "1", "--ray",
                   self._place.ray.address)  # fmt: skip
        return self._step(f"clips-{name}", command, "clips/")

    def _features(self, name: str) -> Step:
        command = ("data", "features", self.uri(name), "--speech", self._bundle, "--motion", self._bundle,
                   "--ray", self._place.ray.address)  # fmt: skip
        return self._step(f"features-{name}", command, "motion/")

    def _step(self, name: str, command: tuple[str, ...], files: str) -> Step:
        def progress() -> int:
            return sum(1 for _ in self._place.storage(name.split("-", 1)[1]).list(files))

        return Step(name, command, command, progress, VIDEOS, r"^ray::(Clip|Feature)Worker")
