import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from ifmdm_core.controls import RenderControls


def test_defaults_are_the_documented_ones() -> None:
    controls = RenderControls()
    assert (controls.pose, controls.intensity, controls.steps, controls.sampler) == (0.5, 0.3, 8, "dpm++")
    assert (controls.guidance, controls.seed, controls.size, controls.fps) == (2.0, 0, None, 25)
    assert (controls.face, controls.paste_back) == ("auto", False)


@pytest.mark.parametrize(
    ("given_", "field", "value"),
    [
        ("hold", "pose", "hold"),
        ("Free", "pose", "free"),
        ("0.25", "pose", 0.25),
        ("none", "intensity", None),
        ("0.9", "intensity", 0.9),
        ("2", "face", 2),
        ("10, 20,30,40", "face", (10, 20, 30, 40)),
        ("none", "face", "none"),
    ],
)
def test_text_of_a_command_line_is_understood(given_: str, field: str, value: object) -> None:
    assert getattr(RenderControls.model_validate({field: given_}), field) == value


@pytest.mark.parametrize(
    "bad",
    [
        {"pose": "sideways"},
        {"pose": 1.1},
        {"pose": "nan"},
        {"intensity": -0.1},
        {"intensity": float("inf")},
        {"steps": 0},
        {"sampler": "euler"},
        {"guidance": -1},
        {"seed": -1},
        {"size": 63},
        {"size": 257},
        {"fps": 0},
        {"face": "1,2,3"},
        {"face": "0,0,0,10"},
        {"face": -1},
        {"stepz": 8},
    ],
)
def test_what_makes_no_sense_is_a_value_error(bad: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        RenderControls.model_validate(bad)


def test_a_render_cannot_change_under_way() -> None:
    with pytest.raises(ValidationError):
        RenderControls().seed = 3  # type: ignore[misc]


@given(
    pose=st.sampled_from(["hold", "evolve", "free"]) | st.floats(0, 1),
    intensity=st.none() | st.floats(0, 1),
    seed=st.integers(0, 2**63 - 1),
    face=st.sampled_from(["auto", "none"]) | st.integers(0, 50) | st.tuples(*[st.integers(1, 4000)] * 4),
)
def test_json_round_trip(pose: object, intensity: object, seed: int, face: object) -> None:
    controls = RenderControls.model_validate(
        {"pose": pose, "intensity": intensity, "seed": seed, "face": face}
    )
    assert RenderControls.model_validate_json(controls.model_dump_json()) == controls
