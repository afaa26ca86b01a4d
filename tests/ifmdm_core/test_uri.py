from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ifmdm_core.errors import BadInput, Forbidden, IfmdmError, Unsupported
from ifmdm_core.uri import Uri, check_key, require_inside


@pytest.mark.parametrize(
    ("text", "scheme", "bucket", "path"),
    [
        ("photo.jpg", "file", "", "photo.jpg"),
        ("/a/b c.mp4", "file", "", "/a/b c.mp4"),
        ("file:///a/b%20c.mp4", "file", "", "/a/b c.mp4"),
        ("take:2.wav", "file", "", "take:2.wav"),
        ("s3://my-bucket/a/b", "s3", "my-bucket", "a/b"),
        ("S3://my-bucket", "s3", "my-bucket", ""),
    ],
)
def test_what_is_understood(text: str, scheme: str, bucket: str, path: str) -> None:
    assert Uri.parse(text) == Uri(scheme, bucket, path)


@pytest.mark.parametrize("text", ["", "a\0b", "s3:/x/y", "s3://UPPER/x", "s3://"])
def test_what_names_nothing_is_bad_input(text: str) -> None:
    with pytest.raises(BadInput):
        Uri.parse(text)


@pytest.mark.parametrize("text", ["http://host/x.jpg", "models:/demo@champion", "file://host/x", "data://x"])
def test_other_schemes_are_unsupported(text: str) -> None:
    with pytest.raises(Unsupported):
        Uri.parse(text)


def test_name_suffix_and_join() -> None:
    uri = Uri.parse("s3://bucket/in/").join("a/Photo.JPG")
    assert str(uri) == "s3://bucket/in/a/Photo.JPG"
    assert (uri.name, uri.suffix) == ("Photo.JPG", ".jpg")
    with pytest.raises(BadInput):
        uri.join("../x")


def test_inside_resolves_links_and_dots(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    base = Uri.parse(root)
    assert Uri.parse(root / "a" / "b").inside(base)
    assert not Uri.parse(root / ".." / "x").inside(base)
    assert not Uri.parse(root / "out" / "x").inside(base)
    assert not Uri.parse(str(root) + "-other").inside(base)
    assert not Uri.parse("s3://bucket/root").inside(base)
    with pytest.raises(Forbidden):
        require_inside(Uri.parse("/etc/passwd"), base)


def test_inside_on_s3_is_by_whole_parts() -> None:
    root = Uri.parse("s3://bucket/in")
    assert Uri.parse("s3://bucket/in/x").inside(root)
    assert not Uri.parse("s3://bucket/inbox/x").inside(root)
    assert not Uri.parse("s3://bucket/in/../x").inside(root)
    assert not Uri.parse("s3://bucket2/in/x").inside(root)


@given(st.text())
def test_parse_and_check_key_never_fail_otherwise(text: str) -> None:
    for function in (Uri.parse, check_key):
        try:
            function(text)
        except IfmdmError as error:
            assert "\n" not in str(error)


@given(
    st.lists(st.from_regex(r"[a-zA-Z0-9_=\-]{1,10}", fullmatch=True), min_size=1, max_size=4).map("/".join)
)
def test_joined_keys_stay_inside(key: str) -> None:
    for root in (Uri.parse("s3://bucket/prefix"), Uri.parse("/data/root")):
        assert root.join(key).inside(root)
