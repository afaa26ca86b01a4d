"""The renderer of job workers: `serve.flow` over the stages of a bundle, whatever they are made of."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ifmdm_core.storage import Storage, open_storage
from jobs.clock import Clock, SystemClock
from jobs.rendering.bundles import Bundles
from jobs.rendering.contract import Rendered, Report, Task
from jobs.rendering.loop_thread import LoopThread
from jobs.rendering.one_render import OneRender, Tools
from serve.config import ServeConfig
from serve.identities import IdentityStore
from serve.intake import Intake
from serve.portrait_check import PortraitCheck
from serve.signing import Signer


class FlowRenderer:
    """See `contract.Renderer`. One for a process; it owns an event loop, threads and decoders. Close it in the end.

    Args:
        config: of the service whose stages are used: root, limits, signing.
        bundles: opened and closed with the renderer.
        oversight: root of the deny-list: the job store; None takes the one that the configuration names.
        signer: None opens the one that the configuration names.

    Raises as `Signer.open` and `Bundles.open`.
    """

    def __init__(
        self,
        config: ServeConfig,
        bundles: Bundles,
        *,
        oversight: Storage | None = None,
        signer: Signer | None = None,
        clock: Clock | None = None,
    ) -> None:
        oversight = oversight or open_storage(config.oversight or config.root)
        check = PortraitCheck(oversight, config.consent_hook)
        signer = signer or Signer.open(config.signing, config.root)  # first: it may raise
        self._tools = Tools(
            loop=LoopThread(),
            bundles=bundles,
            intake=Intake(),
            identities=IdentityStore(config.root, config.identity_days),
            check=check,
            signer=signer,
            limits=config.gateway.limits,
            clock=clock or SystemClock(),
        )
        try:
            self._tools.loop.run(bundles.open(), lambda: None)
        except BaseException:
            self._tools.loop.close()
            self._tools.intake.close()
            raise

    @contextmanager
    def render(self, task: Task, report: Report) -> Iterator[Rendered]:
        """See `contract.Renderer.render`."""
        with tempfile.TemporaryDirectory(prefix="ifmdm-job-", ignore_cleanup_errors=True) as room:
            yield OneRender(self._tools, task, report, Path(room)).run()

    def close(self) -> None:
        """Gives everything back; no render may be under way."""
        self._tools.loop.run(self._tools.bundles.close(), lambda: None)
        self._tools.loop.close()
        self._tools.intake.close()
