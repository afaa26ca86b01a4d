"""MLflow's exceptions as ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from ifmdm_core.errors import BadInput, Conflict, Forbidden, IfmdmError, NotFound, Unavailable

_KINDS: dict[str, type[IfmdmError]] = {
    "RESOURCE_DOES_NOT_EXIST": NotFound,
    "INVALID_PARAMETER_VALUE": BadInput,
    "RESOURCE_ALREADY_EXISTS": Conflict,
    "PERMISSION_DENIED": Forbidden,
    "UNAUTHENTICATED": Forbidden,
}


@contextmanager
def mlflow_errors(uri: str, what: str, fix: str = "") -> Iterator[None]:
    """Errors of the block as NotFound, BadInput, Conflict, Forbidden; Unavailable when the server does not answer.

    Args:
        what: what was looked for or done, quoted in the message.
    """
    from mlflow.exceptions import MlflowException
    from requests import RequestException

    try:
        yield
    except (MlflowException, RequestException) as error:
        message = str(error).splitlines()[0][:300]
        kind = _KINDS.get(str(getattr(error, "error_code", "")))
        if kind is not None and "failed with exception" not in message:
            raise kind(f"{what}: {message}", fix=fix) from error
        raise Unavailable(
            f"{what}: MLflow at {uri} does not answer: {message}",
            fix="start it, or give its address with --mlflow or $MLFLOW_TRACKING_URI",
        ) from error
