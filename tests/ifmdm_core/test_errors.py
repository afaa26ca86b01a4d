import pickle

import pytest

from ifmdm_core import errors


@pytest.mark.parametrize(
    ("name", "exit_code", "http", "job"),
    [
        ("BadInput", 2, 422, "bad_input"),
        ("NotFound", 3, 404, "not_found"),
        ("Forbidden", 4, 403, "bad_input"),
        ("Conflict", 5, 409, "bad_input"),
        ("Unsupported", 6, 422, "bad_input"),
        ("Busy", 75, 429, "transient"),
        ("Unavailable", 75, 503, "transient"),
        ("Expired", 8, 504, "expired"),
        ("Cancelled", 130, 499, "cancelled"),
        ("IfmdmError", 70, 500, "bug"),
    ],
)
def test_the_table_of_architecture_md(name: str, exit_code: int, http: int, job: str) -> None:
    error = getattr(errors, name)("x")
    assert (error.exit_code, error.http_status, error.job) == (exit_code, http, job)
    assert isinstance(error, errors.IfmdmError)


def test_too_large_is_413_for_that_error_only() -> None:
    assert errors.BadInput("x", too_large=True).http_status == 413
    assert errors.BadInput("x").http_status == 422


def test_text_is_one_line_with_what_and_fix() -> None:
    assert (
        str(errors.BadInput("photo.jpg: is\n empty", fix="give another"))
        == "photo.jpg: is empty; give another"
    )
    assert str(errors.BadInput("alone")) == "alone"


@pytest.mark.parametrize(
    "error",
    [
        errors.BadInput("a", fix="b", too_large=True),
        errors.Unavailable("a", retry_after=7.0),
        errors.IfmdmError("x"),
    ],
)
def test_errors_cross_process_borders_whole(error: errors.IfmdmError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert copy.http_status == error.http_status
    assert getattr(copy, "retry_after", None) == getattr(error, "retry_after", None)


def test_nearest_suggests_or_lists() -> None:
    assert errors.nearest("stesp", ["steps", "seed"]) == "did you mean 'steps'?"
    assert errors.nearest("zzz", ["steps", "seed"]) == "valid: seed, steps"
