"""The picture of the architecture is that of the imports as they are."""

from __future__ import annotations

from tests.docs.architecture import PICTURE, draw, imports


def test_the_picture_shows_the_imports_as_they_are() -> None:
    drawn = draw(imports())
    assert drawn == PICTURE.read_text(), "the imports have changed: python -m tests.docs.architecture"


def test_it_shows_what_is_known_of_the_rooms() -> None:
    found = imports()
    rooms = {
        room: {use for uses in parts.values() for use in uses if use.endswith("/")}
        for room, parts in found.items()
    }
    assert rooms["ifmdm_core"] == set()
    assert rooms["serve"] == {"ifmdm_core/"}
    assert rooms["jobs"] == {"ifmdm_core/", "serve/"}
    assert found["ifmdm_core"]["kernel"] == set()
    assert "dataset" in found["pipelines"]["clips"]


def test_an_import_more_changes_the_picture() -> None:
    found = imports()
    found["serve"]["http"].add("studio")
    changed = draw(found)
    assert changed != draw(imports())
