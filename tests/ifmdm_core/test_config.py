import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from ifmdm_core.config import load_config, set_value, validate
from ifmdm_core.controls import RenderControls
from ifmdm_core.errors import BadInput, NotFound


class Window(BaseModel):
    model_config = ConfigDict(extra="forbid")
    frames: int = Field(50, ge=1)
    context: int = 10


class Service(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    window: Window = Window()
    spare: Window | None = None


def _write(folder: Path, name: str, text: str) -> Path:
    (folder / name).write_text(text)
    return folder / name


@pytest.mark.parametrize(
    ("name", "text"),
    [("c.yaml", "name: x\nwindow: {frames: 16}"), ("c.json", '{"name": "x", "window": {"frames": 16}}')],
)
def test_yaml_and_json_with_overrides(tmp_path: Path, name: str, text: str) -> None:
    config = load_config(Service, _write(tmp_path, name, text), ["window.context=4", "name=b=c"])
    assert config == Service(name="b=c", window=Window(frames=16, context=4))


def test_overrides_alone_are_enough() -> None:
    assert load_config(Service, None, ["name=a", "spare.frames=3"]).spare == Window(frames=3)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "name: x\nwindow: {framse: 16}",
            r"c\.yaml: unknown setting 'window\.framse'; did you mean 'frames'\?",
        ),
        ("name: x\nspare: {contxt: 1}", r"unknown setting 'spare\.contxt'; did you mean 'context'\?"),
        ("name: x\nwidnow: {}", r"unknown setting 'widnow'; did you mean 'window'\?"),
        ("window: {}", r"setting 'name' is missing"),
        ("name: x\nwindow: {frames: 0}", r"window\.frames is 0; should be greater than or equal to 1"),
        ("- a\n- b", "must be a mapping"),
        ("a: [", "not YAML"),
    ],
)
def test_faults_are_one_line_naming_the_setting(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(BadInput, match=says) as caught:
        load_config(Service, _write(tmp_path, "c.yaml", text))
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_broken_json_are_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"absent\.yaml"):
        load_config(Service, tmp_path / "absent.yaml")
    with pytest.raises(BadInput, match="not JSON"):
        load_config(Service, _write(tmp_path, "c.json", "{"))


@pytest.mark.parametrize("override", ["frames", "=3", "a..b=1", ""])
def test_an_override_without_name_or_value_is_refused(override: str) -> None:
    with pytest.raises(BadInput, match="name=value"):
        set_value({}, override)


def test_an_override_through_a_value_is_refused() -> None:
    with pytest.raises(BadInput, match="holds a value"):
        set_value({"a": 3}, "a.b=1")


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"pose": "x"}, "pose is 'x'; should be 'hold', 'evolve' or 'free' or"),
        ({"face": "1,2"}, r"face is .*four numbers x,y,w,h"),
        ({"stes": 8}, "unknown setting 'stes'; did you mean 'steps'"),
    ],
)
def test_unions_are_explained_by_all_their_branches(values: dict[str, object], says: str) -> None:
    with pytest.raises(BadInput, match=says):
        validate(RenderControls, values)


@given(
    path=st.lists(st.from_regex(r"[a-z]{1,5}", fullmatch=True), min_size=1, max_size=4), value=st.integers()
)
def test_set_value_nests_by_dots(path: list[str], value: int) -> None:
    values: dict[str, object] = {}
    set_value(values, f"{'.'.join(path)}={value}")
    at: object = values
    for key in path:
        assert isinstance(at, dict)
        at = at[key]
    assert at == value


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"controls": {"steps": 0}}, "controls.steps"),
        ({"controls": {"stpes": 1}}, "controls.stpes"),
        ({}, "controls"),
    ],
)
def test_an_error_knows_its_field(values: dict[str, object], field: str) -> None:
    class Wanted(BaseModel):
        model_config = ConfigDict(extra="forbid")

        controls: RenderControls

    with pytest.raises(BadInput) as error:
        validate(Wanted, values)
    assert error.value.field == field
    assert pickle.loads(pickle.dumps(error.value)).field == field
