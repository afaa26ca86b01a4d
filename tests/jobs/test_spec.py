"""What a job may say, how it is refused, and what makes two jobs the same."""

from __future__ import annotations

from typing import Any

import pytest

from ifmdm_core.errors import BadInput
from jobs.spec import RenderJob, json_schema, parse_job

PLAIN = {"portrait": "s3://bucket/a.jpg", "audio": "s3://bucket/a.wav", "output": "s3://bucket/a.mp4"}
ETAGS = {"portrait": "1", "audio": "2"}


def test_three_fields_are_enough() -> None:
    job = parse_job(PLAIN)
    assert (job.model, job.if_exists, job.priority, job.max_attempts) == ("demo", "fail", 0, 3)
    assert job.given() == PLAIN


@pytest.mark.parametrize(
    ("change", "field", "says"),
    [
        ({"portrait": ""}, "portrait", "portrait is ''"),
        ({"portrait": "http://b/a.jpg"}, "portrait", "scheme 'http'"),
        ({"portrait": "s3://B_/a.jpg"}, "portrait", "no valid bucket"),
        ({"audio": "s3://bucket/"}, "audio", "names a folder, not a file"),
        ({"output": "s3://bucket/a.mov"}, "output", "must end in .mp4"),
        ({"outptu": "x"}, "outptu", "did you mean 'output'?"),
        ({"controls": {"steps": 0}}, "controls.steps", "controls.steps is 0"),
        ({"controls": {"stesp": 4}}, "controls.stesp", "did you mean 'steps'?"),
        ({"priority": 1001}, "priority", "priority is 1001"),
        ({"if_exists": "replace"}, "if_exists", "if_exists is 'replace'"),
        ({"labels": {"": "x"}}, "labels", "name ''"),
        ({"labels": {f"n{i}": "" for i in range(21)}}, "labels", "20 are the most"),
        ({"callback": "ftp://x/y"}, "callback", "must be an http(s) address"),
        ({"max_attempts": 0}, "max_attempts", "max_attempts is 0"),
        ({"deadline": float("inf")}, "deadline", "deadline is inf"),
        ({"version": 2}, "version", "version is 2"),
        ({"not_before": 20, "deadline": 10}, "", "deadline 10.0 is not after not_before 20.0"),
    ],
)
def test_refusals_name_field_and_value(change: dict[str, Any], field: str, says: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_job({**PLAIN, **change})
    assert says in str(refusal.value)
    assert refusal.value.field == field


@pytest.mark.parametrize("field", ["portrait", "audio", "output"])
def test_what_is_missing_is_named(field: str) -> None:
    with pytest.raises(BadInput) as refusal:
        parse_job({name: value for name, value in PLAIN.items() if name != field})
    assert str(refusal.value) == f"setting {field!r} is missing"
    assert refusal.value.field == field


def test_the_id_is_that_of_the_key_or_of_what_is_asked_for() -> None:
    job = parse_job(PLAIN)
    assert job.id("t", ETAGS) == parse_job(dict(reversed(PLAIN.items()))).id("t", ETAGS)
    others = [
        job.id("u", ETAGS),
        job.id("t", {**ETAGS, "audio": "3"}),
        parse_job({**PLAIN, "priority": 1}).id("t", ETAGS),
        parse_job({**PLAIN, "key": "k"}).id("t", ETAGS),
    ]
    assert len({job.id("t", ETAGS), *others}) == 5
    keyed = parse_job({**PLAIN, "key": "k", "priority": 1})
    assert keyed.id("t", ETAGS) == parse_job({**PLAIN, "key": "k"}).id("t", {})


def test_a_key_is_never_taken_for_a_digest() -> None:
    job = parse_job(PLAIN)
    assert parse_job({**PLAIN, "key": job.digest(ETAGS)}).id("t", ETAGS) != job.id("t", ETAGS)


def test_the_schema_describes_every_field() -> None:
    schema = json_schema()
    assert schema["additionalProperties"] is False
    assert sorted(schema["required"]) == sorted(PLAIN)
    assert set(schema["properties"]) == set(RenderJob.model_fields)
    assert all("description" in schema["properties"][name] for name in RenderJob.model_fields)
    assert "steps" in schema["$defs"]["RenderControls"]["properties"]
