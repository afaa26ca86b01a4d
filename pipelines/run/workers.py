"""The Ray actors: each loads its models once and makes one shard at a time."""

from __future__ import annotations

import contextlib
import ctypes
from functools import partial
from typing import Any

import ray

from ifmdm_core.errors import Forbidden, NotFound
from ifmdm_core.storage import S3Config
from pipelines.clips.probe import Probed, probe_source
from pipelines.clips.shard import ClipShardBuilder, ClipShardWork, ShardResult
from pipelines.clips.sources import SourceItem
from pipelines.dataset.parameters import ClipParameters
from pipelines.features.shard import FeatureResult, FeatureShardBuilder, FeatureShardWork, FeatureWanted
from pipelines.retry import with_retries
from pipelines.run.patient_storage import PatientStorage
from pipelines.run.settings import RunSettings

ACTOR = {"max_restarts": 0, "max_task_retries": 0, "scheduling_strategy": "SPREAD"}


def _here() -> str:
    """The node, as people and `ray list nodes` know it."""
    context = ray.get_runtime_context()
    return f"{ray.util.get_node_ip_address()}/{context.get_node_id()[:8]}"


def _give_back_memory() -> None:
    """Hand freed heap back to the system: what decoding threads leave scattered adds up to hundreds of megabytes."""
    with contextlib.suppress(OSError, AttributeError):  # other C libraries lack it, and the trouble
        ctypes.CDLL("libc.so.6").malloc_trim(0)


class ClipWorker:
    """Probes sources and cuts clip shards."""

    def __init__(
        self, dataset: str, parameters: ClipParameters, s3: S3Config | None, settings: RunSettings
    ) -> None:
        self._dataset, self._parameters, self._s3, self._settings = dataset, parameters, s3, settings
        self._waits: list[str] = []
        self._builder: ClipShardBuilder | None = None

    def ready(self) -> str:
        """Load what every shard needs; the node's name."""
        storage = PatientStorage.open(self._dataset, self._s3, self._waits.append)
        self._builder = ClipShardBuilder(storage, self._parameters, self._s3, self._settings.scratch)
        self._builder.warm_up()
        return _here()

    def probe(self, items: list[SourceItem]) -> list[Probed | str]:
        """Each source's digest and length, or why it cannot be read at all."""
        found: list[Probed | str] = []
        for item in items:
            try:
                found.append(with_retries(partial(self._probe, item), f"reading {item.source}"))
            except (NotFound, Forbidden) as error:
                found.append(str(error))
        return found

    def _probe(self, item: SourceItem) -> Probed:
        return probe_source(item, self._s3, self._settings.scratch)

    def build(self, work: ClipShardWork) -> ShardResult:
        """One clip shard."""
        assert self._builder is not None
        self._waits.clear()
        result = self._builder.build(work)
        result.waits += self._waits
        _give_back_memory()
        return result


class FeatureWorker:
    """Makes the feature shards of one clip shard after the other."""

    def __init__(
        self,
        dataset: str,
        generation: str,
        wanted: list[FeatureWanted],
        s3: S3Config | None,
        settings: RunSettings,
    ) -> None:
        self._dataset, self._generation, self._wanted = dataset, generation, wanted
        self._s3, self._settings = s3, settings
        self._waits: list[str] = []
        self._builder: FeatureShardBuilder | None = None

    def ready(self) -> str:
        """Load the encoders; the node's name."""
        storage = PatientStorage.open(self._dataset, self._s3, self._waits.append)
        device = "cuda" if self._settings.gpus else "cpu"
        settings, decoders = self._settings, max(1, int(self._settings.cpus))
        self._builder = FeatureShardBuilder(
            storage, self._generation, self._wanted, device, settings.batch, settings.scratch, decoders
        )
        self._builder.warm_up()
        return _here()

    def build(self, work: FeatureShardWork) -> list[FeatureResult]:
        """The wanted feature shards of one clip shard."""
        assert self._builder is not None
        self._waits.clear()
        results = self._builder.build(work)
        for result in results[:1]:
            result.waits += self._waits
        _give_back_memory()
        return results


def start(kind: type, settings: RunSettings, *arguments: Any) -> Any:
    """An actor of one of the classes above."""
    threads = {"OMP_NUM_THREADS": str(max(1, int(settings.cpus)))}
    remote = ray.remote(kind).options(
        num_cpus=settings.cpus, num_gpus=settings.gpus,
        runtime_env={"env_vars": {**threads, "TOKENIZERS_PARALLELISM": "false"}}, **ACTOR,
    )  # fmt: skip
    return remote.remote(*arguments, settings)
