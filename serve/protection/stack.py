"""All layers around an application, in their order."""

from __future__ import annotations

from collections.abc import Callable

from serve.admission import Admission
from serve.config import GatewayConfig
from serve.protection.access import Access
from serve.protection.asgi import App
from serve.protection.callers import Callers
from serve.protection.intake_limits import IntakeLimits
from serve.protection.rates import Rates
from serve.protection.replies import Replies


def protected(app: App, config: GatewayConfig, admission: Admission, rejected: Callable[[str], None]) -> App:
    """`app` behind request ids and error replies, tokens, rates, admission and size limits.

    Raises NotFound, BadInput for a token file that is not there or not right.
    """
    callers = Callers(config.tokens) if config.tokens is not None else None
    limited = IntakeLimits(app, config.limits, admission, config.replicas)
    return Replies(Access(Rates(limited, config.replicas), callers), rejected)
