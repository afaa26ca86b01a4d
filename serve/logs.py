"""Logs as JSON lines with the request's id in each, secrets taken out.

Under Ray Serve the lines go where Serve's own go: its logger rotates files, adds application, deployment, replica and
request id, and follows a request from the proxy through the gateway to the stages; `SERVE_LOGGING` makes those files
JSON. Elsewhere `log_to` writes the same kind of line to a stream.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import Any, TextIO

SERVE_LOGGING = {"encoding": "JSON", "enable_access_log": True, "additional_log_standard_attrs": ["name"]}
"""For `serve.run(logging_config=…)` and `@serve.deployment(logging_config=…)`."""

OURS = ("serve", "ifmdm_core")
"""Loggers of this code base that a replica writes."""

_request: ContextVar[str] = ContextVar("request", default="")
_PLAIN_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")
_SECRET = re.compile(
    r"""(?ix)
    ( \b bearer \s+
    | (?: token|authorization|password|secret|signature ) ["']? \s* [=:] \s* ["']? (?: basic\s+ | bearer\s+ )?
    )
    [^\s"',;&]+"""
)
_SECRET_FIELD = re.compile(r"(?i)token|authorization|cookie|password|secret|^key$")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


def request_id() -> str:
    """The id of the request this code works for; empty outside of any."""
    return _request.get()


def usable_request_id(given: str | None) -> str:
    """`given` when it is fit for logs and headers (up to 128 of letters, digits and . _ : -), else a new one."""
    return given if given and _PLAIN_ID.fullmatch(given) else uuid.uuid4().hex


@contextmanager
def request(identifier: str) -> Iterator[None]:
    """Lines logged inside carry this request id: also of tasks, threads, and replicas that are called from here."""
    token = _request.set(identifier)
    if (context := sys.modules.get("ray.serve.context")) is not None:
        # Serve sends its own id along to replicas, whose lines then have ours; it has no public way to set it.
        context._set_request_context(request_id=identifier)
    try:
        yield
    finally:
        _request.reset(token)


class Redacted(logging.Filter):
    """Lets every record through, with its request id on it and without tokens, passwords and cookies.

    Records that pass through other libraries' handlers afterwards are clean too: the record itself is changed.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        for name, value in vars(record).items():
            if name not in _STANDARD:
                setattr(record, name, _clean(name, value))
        if record.exc_info and not record.exc_text:
            record.exc_text = logging.Formatter().formatException(record.exc_info)
        if record.exc_text:
            record.exc_text = redact(record.exc_text)
        if request_id():
            record.request_id = request_id()
        return True


class JsonLines(logging.Formatter):
    """One JSON object a line: time (UTC), level, logger, message, and what was given as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        line |= {
            name: value for name, value in vars(record).items() if name not in _STANDARD and name[0] != "_"
        }
        if record.exc_text:
            line["exception"] = record.exc_text
        return json.dumps(line, default=str, ensure_ascii=False)


class _ToServe(logging.Handler):
    """Hands records to Ray Serve's logger, whose handlers may be replaced while the replica lives."""

    def emit(self, record: logging.LogRecord) -> None:
        logging.getLogger("ray.serve").handle(record)


def log_through_serve(level: int = logging.INFO) -> None:
    """Our loggers write where Ray Serve writes; call it once in each replica."""
    _install(_ToServe(), level)


def log_to(stream: TextIO, level: int = logging.INFO) -> None:
    """Our loggers write JSON lines to `stream`."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines())
    _install(handler, level)


def redact(text: str) -> str:
    """`text` with the values of bearer tokens, passwords and signatures replaced by …"""
    return _SECRET.sub(lambda found: found[1] + "…", text)


def _install(handler: logging.Handler, level: int) -> None:
    handler.addFilter(Redacted())
    for name in OURS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]  # calling twice does not double lines
        logger.setLevel(level)
        logger.propagate = False


def _clean(name: str, value: Any) -> Any:
    if _SECRET_FIELD.search(name):
        return "…"
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {key: _clean(str(key), item) for key, item in value.items()}
    return value
