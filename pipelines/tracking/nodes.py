"""What a node does meanwhile (processor, memory, disk, network, GPU), in the training's MLflow run."""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from ifmdm_core.errors import NotFound
from ifmdm_core.storage import Storage
from pipelines.tracking.mlflow_run import entity_name, open_client, pin_key
from pipelines.tracking.settings import TrackingSettings
from pipelines.tracking.spool import Spool

_log = logging.getLogger(__name__)


class NodeMetrics:
    """Samples one node in a thread until `stop`; one process of each node starts it.

    Figures are called `system/<node>/<name>`. They are not spooled: a sample that cannot be sent is dropped. Nothing
    is sent before the training has its run.

    Args:
        storage: the training's.
        node: short and stable, e.g. node-0.
    """

    def __init__(self, storage: Storage, settings: TrackingSettings, node: str) -> None:
        self._storage, self._settings, self._node = storage, settings, node
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ifmdm-node-metrics", daemon=True)

    @classmethod
    def start(cls, storage: Storage, settings: TrackingSettings, node: str) -> NodeMetrics:
        """Begin, unless the settings say not to."""
        metrics = cls(storage, settings, node)
        if settings.uri is not None and settings.system_metrics:
            metrics._thread.start()
        return metrics

    def stop(self) -> None:
        """No samples any more; waits for a request under way for 2 s at most."""
        self._over.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    def _work(self) -> None:
        try:
            monitors = _monitors()
        except Exception as error:
            _log.warning("no system metrics of %s: %s", self._node, error)
            return
        while not self._over.wait(self._settings.system_interval_s):
            try:
                self._sample(monitors)
            except Exception as error:
                _log.debug("a sample of %s was dropped: %s", self._node, error)

    def _sample(self, monitors: list[Any]) -> None:
        from mlflow.entities import Metric

        uri = self._settings.uri
        assert uri is not None
        try:
            run_id = self._storage.get(pin_key(uri)).decode()
        except NotFound:
            return
        now = time.time()
        # Restarts go on where the clock is, so that no step comes twice.
        step = int((now - Spool(self._storage).run().created) / self._settings.system_interval_s)
        values: dict[str, float] = {}
        for monitor in monitors:
            monitor.collect_metrics()
            values |= monitor.aggregate_metrics()
            monitor.clear_metrics()
        prefix = entity_name(f"system/{self._node}")
        listed = [Metric(f"{prefix}/{name}", float(v), int(1000 * now), step) for name, v in values.items()]
        open_client(uri).log_batch(run_id, metrics=listed)


def _monitors() -> list[Any]:
    from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
    from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
    from mlflow.system_metrics.metrics.gpu_monitor import GPUMonitor
    from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

    found: list[Any] = [CPUMonitor(), DiskMonitor(), NetworkMonitor()]
    try:
        found.append(GPUMonitor())
    except Exception:  # no NVIDIA driver, or no package that speaks to it
        _log.debug("no GPU figures on this node")
    return found
