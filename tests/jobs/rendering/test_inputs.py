"""Inputs that are gone, changed, too large or hostile: refused by field, before a stage is asked."""

from __future__ import annotations

import io
import struct
import wave
import zlib
from dataclasses import replace

import numpy as np
import pytest

from ifmdm_core.errors import BadInput, Conflict, IfmdmError, NotFound
from jobs.rendering.contract import Task
from jobs.rendering.renderer import FlowRenderer
from tests.jobs.rendering.places import Place, Reports, WatchedBundles, recording

PLAYLIST = b"#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:10,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n"
CONCAT = b"ffconcat version 1.0\nfile /etc/passwd\n"
DASH = (
    b'<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>http://[::1]/</BaseURL></MPD>'
)
HIDDEN = b"RIFF\x00\x00\x00\x00WAVE" + PLAYLIST


def refused(renderer: FlowRenderer, bundles: WatchedBundles, place: Place, task: Task) -> IfmdmError:
    """Why a task is not rendered; no stage was asked."""
    with pytest.raises(IfmdmError) as caught, renderer.render(task, Reports()):
        pass
    assert not any(bundles.begun.values())
    assert place.log(task)[-1]["field"] == caught.value.field
    return caught.value


@pytest.mark.parametrize("field", ["portrait", "audio"])
def test_an_input_that_was_changed_or_removed_after_it_was_pinned(
    renderer: FlowRenderer,
    bundles: WatchedBundles,
    either_place: Place,
    photo: bytes,
    speech: bytes,
    field: str,
) -> None:
    place = either_place
    task = place.task(photo, speech)
    source = getattr(task, field)
    place.storage.put(source.key, recording(1.0))
    error = refused(renderer, bundles, place, task)
    assert type(error) is Conflict
    now = place.storage.info(source.key)
    assert now is not None
    for part in (field, str(source.uri), source.etag, now.etag):
        assert part in error.what

    place.storage.delete(source.key)
    error = refused(renderer, bundles, place, task)
    assert type(error) is NotFound
    assert error.what == f"{field} {str(source.uri)!r}: there is nothing"


def test_an_input_that_changes_while_it_is_read(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes, speech: bytes
) -> None:
    task = place.task(photo, speech)
    fetch = place.storage.fetch

    class Changing:
        root, info, put, get = place.storage.root, place.storage.info, place.storage.put, place.storage.get

        def fetch(self, key: str, path: object) -> None:
            place.storage.put(key, recording(2.0))
            fetch(key, path)  # type: ignore[arg-type]

    audio = replace(task.audio, storage=Changing())  # type: ignore[arg-type]
    error = refused(renderer, bundles, place, replace(task, audio=audio))
    assert type(error) is Conflict
    assert error.what.startswith("audio ")


def png_bomb(side: int) -> bytes:
    """A PNG that says it has side x side pixels, in kilobytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"\0" * (200 * (1 + side)))
    header = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def silence(seconds: float, rate: int) -> bytes:
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(np.zeros(int(seconds * rate), "<i2").tobytes())
    return file.getvalue()


@pytest.mark.parametrize(
    ("portrait", "why"),
    [
        (b"", "is empty"),
        (b"\0" * 5000, "no picture"),
        (b"%PDF-1.7 and so on", "is a PDF, no picture"),
        (b"<html><body>not found</body></html>", "text"),
        (b"\x89PNG\r\n\x1a\n" + b"\7" * 5000, "picture"),
        (png_bomb(60_000), "pixels"),
        (b"\xff\xd8\xff" + b"\0" * 1_000_000, "has 1.0 MB; at most 1 are taken"),
    ],
)
def test_what_is_no_portrait(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, speech: bytes, portrait: bytes, why: str
) -> None:
    task = place.task(portrait, speech)
    error = refused(renderer, bundles, place, task)
    assert (type(error), error.field) == (BadInput, "portrait")
    assert error.what.startswith(f"portrait {str(task.portrait.uri)!r}: ")
    assert why in error.what


@pytest.mark.parametrize(
    ("audio", "why"),
    [
        (b"", "is empty"),
        (PLAYLIST, "is a playlist, no sound"),
        (CONCAT, "is a playlist, no sound"),
        (DASH, "is XML, no sound"),
        (HIDDEN, "audio"),
        (b"\0" * 5000, "audio"),
        (png_bomb(100), "is a picture, no sound"),
        (silence(3, 8000), "is silent"),
        (silence(31, 1000), "at most 30 are read"),
        (recording(0.05), "only 50 ms"),
    ],
)
def test_what_is_no_speech(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes, audio: bytes, why: str
) -> None:
    task = place.task(photo, audio)
    error = refused(renderer, bundles, place, task)
    assert (type(error), error.field) == (BadInput, "audio")
    assert error.what.startswith(f"audio {str(task.audio.uri)!r}: ")
    assert why in error.what
    assert "root:" not in str(error)


def test_a_picture_without_the_face_that_is_wanted(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes, speech: bytes
) -> None:
    task = place.task(photo, speech)
    controls = task.controls.model_copy(update={"face": 7})
    error = refused(renderer, bundles, place, replace(task, controls=controls))
    assert error.what.startswith("portrait ")
    assert "face" in error.what


def test_speech_too_short_for_a_frame(
    renderer: FlowRenderer, bundles: WatchedBundles, place: Place, photo: bytes
) -> None:
    task = place.task(photo, recording(0.3))
    controls = task.controls.model_copy(update={"fps": 1})
    error = refused(renderer, bundles, place, replace(task, controls=controls))
    assert error.what.startswith("audio ")
    assert "1 fps" in error.what
