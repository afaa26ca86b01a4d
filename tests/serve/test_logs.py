"""Log lines are JSON, say which request they belong to, and never carry a secret."""

from __future__ import annotations

import asyncio
import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from serve.logs import OURS, log_through_serve, log_to, redact, request, request_id, usable_request_id

SECRET = "s3cr3t-Value_42"


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    loggers = [logging.getLogger(name) for name in (*OURS, "ray.serve")]
    before = [(logger, logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, handlers, level, propagate in before:
        logger.handlers[:], logger.propagate = handlers, propagate
        logger.setLevel(level)


@pytest.fixture
def stream() -> io.StringIO:
    stream = io.StringIO()
    log_to(stream)
    return stream


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_an_object_with_what_was_given(stream: io.StringIO) -> None:
    logging.getLogger("serve.renders").info(
        "done: %d frames\nand more", 25, extra={"tenant": "a", "busy_s": {"motion": 1.5}}
    )
    (line,) = lines(stream)
    assert line["message"] == "done: 25 frames\nand more"
    assert (line["level"], line["logger"], line["tenant"]) == ("INFO", "serve.renders", "a")
    assert line["busy_s"] == {"motion": 1.5}
    assert line["time"].endswith("+00:00")
    assert "request_id" not in line


def test_the_core_logs_there_too_and_setting_up_twice_doubles_nothing(stream: io.StringIO) -> None:
    log_to(stream)
    logging.getLogger("ifmdm_core.media").warning("odd")
    logging.getLogger("serve").debug("too quiet")
    assert [line["message"] for line in lines(stream)] == ["odd"]


def test_tasks_and_threads_of_a_request_carry_its_id_and_others_theirs(stream: io.StringIO) -> None:
    log = logging.getLogger("serve.flow")

    async def work(name: str) -> None:
        with request(name):
            log.info("begins")
            await asyncio.sleep(0)
            await asyncio.gather(asyncio.to_thread(log.info, "in a thread"), asyncio.create_task(inner()))

    async def inner() -> None:
        log.info("in a task")

    async def both() -> None:
        await asyncio.gather(work("one"), work("two"))

    asyncio.run(both())
    found = sorted((line["request_id"], line["message"]) for line in lines(stream))
    assert found == [
        (name, what) for name in ("one", "two") for what in ("begins", "in a task", "in a thread")
    ]
    assert request_id() == ""


@pytest.mark.parametrize(
    "text",
    [
        f"Authorization: Bearer {SECRET}",
        f"authorization=Basic {SECRET}",
        f"sent bearer {SECRET} twice",
        f"/v1/files/a?token={SECRET}&x=1",
        f'{{"password": "{SECRET}"}}',
        f"X-Amz-Signature={SECRET}",
        f"{{'token': '{SECRET}'}}",
    ],
)
def test_secrets_in_text(text: str, stream: io.StringIO) -> None:
    assert SECRET not in redact(text)
    logging.getLogger("serve").info("got %s", text, extra={"note": text, "headers": {"x": text}})
    try:
        raise ValueError(text)
    except ValueError:
        logging.getLogger("serve").exception("failed")
    assert SECRET not in stream.getvalue()
    assert lines(stream)[1]["exception"].startswith("Traceback")


def test_secrets_by_the_name_of_their_field(stream: io.StringIO) -> None:
    extra = {"token": SECRET, "headers": {"Cookie": SECRET, "Authorization": SECRET, "accept": "video/mp4"}}
    logging.getLogger("serve").info("request", extra=extra)
    assert SECRET not in stream.getvalue()
    assert lines(stream)[0]["headers"]["accept"] == "video/mp4"


def test_innocent_text_stays() -> None:
    text = "the tokens of window 3: 499; a token is 32 numbers, signatures are last"
    assert redact(text) == text


def test_under_serve_lines_go_through_its_logger_clean_and_with_the_id() -> None:
    seen: list[logging.LogRecord] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(record)

    log_through_serve()
    logging.getLogger("ray.serve").handlers[:] = [Keep()]  # as Serve does when it is configured anew
    with request("abc"):
        logging.getLogger("serve.gateway").info("token=%s", SECRET)
    assert [record.getMessage() for record in seen] == ["token=…"]
    assert seen[0].request_id == "abc"  # type: ignore[attr-defined]


@pytest.mark.parametrize("given", ["", None, "a" * 129, "two words", "line\nbreak", "ü", '"'])
def test_odd_request_ids_are_replaced(given: str | None) -> None:
    made = usable_request_id(given)
    assert made != given
    assert usable_request_id(made) == made


def test_a_plain_request_id_is_kept() -> None:
    assert usable_request_id("build-7.request_3:a") == "build-7.request_3:a"
