from __future__ import annotations

from pathlib import Path

import pytest

from ifmdm_core.errors import BadInput, Cancelled, IfmdmError
from serve.studio.session import Form, failed, request_of

PICTURE = {"path": "/uploads/1/photo.jpg", "orig_name": "photo.jpg"}
SOUND = {"path": "/uploads/2/speech.wav", "orig_name": None}


def _form(**changed: object) -> Form:
    given: dict[str, object] = {
        "portrait": PICTURE, "registered": "", "audio": SOUND, "pose": "number", "pose_number": 0.25,
        "intensity_open": False, "intensity": 0.4, "guidance": 3, "steps": 12, "seed": 5,
    }  # fmt: skip
    return Form(**{**given, **changed})  # type: ignore[arg-type]


def test_the_form_becomes_a_request() -> None:
    request = request_of(_form(), "anna", most=2)
    assert (request.tenant, request.most) == ("anna", 2)
    assert (request.portrait, request.audio) == (Path(PICTURE["path"]), Path(str(SOUND["path"])))
    assert (request.portrait_name, request.audio_name) == ("photo.jpg", "the recording")
    controls = request.controls
    assert (controls.pose, controls.intensity, controls.guidance) == (0.25, 0.4, 3)
    assert (controls.steps, controls.seed) == (12, 5)


@pytest.mark.parametrize("pose", ["hold", "evolve", "free"])
def test_a_named_pose_is_not_a_number(pose: str) -> None:
    assert request_of(_form(pose=pose), "anna", None).controls.pose == pose


def test_intensity_can_be_left_open() -> None:
    assert request_of(_form(intensity_open=True), "anna", None).controls.intensity is None


def test_a_registered_portrait_is_named_by_its_digest() -> None:
    digest = "AB" * 32
    request = request_of(_form(portrait=None, registered=f" {digest} "), "anna", None)
    assert request.portrait == digest.lower()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"pose_number": 2}, "pose"),
        ({"intensity": -0.1}, "intensity"),
        ({"guidance": "much"}, "guidance"),
        ({"steps": 0}, "steps"),
        ({"steps": 1.5}, "steps"),
        ({"seed": None}, "seed"),
        ({"audio": None}, "no speech"),
        ({"portrait": None}, "no portrait"),
        ({"registered": "ab" * 32}, "both given"),
    ],
)
def test_what_does_not_fit_is_named(changed: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        request_of(_form(**changed), "anna", None)


def test_faults_of_ours_tell_the_request_and_nothing_else() -> None:
    for error in (IfmdmError("/root/secret: 3 of 9 frames"), ZeroDivisionError("secret")):
        message = failed(error, "r-17").message
        assert message is not None
        assert "r-17" in message
        assert "secret" not in message


def test_other_errors_tell_what_and_how_to_fix_it_as_text() -> None:
    message = failed(BadInput("<b>.jpg: no face", fix='choose "another"'), "r-17").message
    assert message is not None
    assert "&lt;b&gt;.jpg: no face" in message
    assert "choose &quot;another&quot;" in message
    assert "r-17" not in message


def test_being_stopped_is_no_error() -> None:
    message = failed(Cancelled("stopped"), "r-17").message
    assert message is not None
    assert "alert" not in message
