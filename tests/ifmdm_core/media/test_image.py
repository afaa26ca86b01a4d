from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image, ImageCms

from ifmdm_core.errors import BadInput, Forbidden, NotFound
from ifmdm_core.media.image import MIN_SIDE, read_image, write_image

RAMP = np.tile(np.arange(256, dtype=np.uint8), (96, 1))  # [96, 256]
COLOURS = np.stack([RAMP, RAMP[:, ::-1], np.full_like(RAMP, 60)], -1)  # [96, 256, 3]


def coded(picture: Image.Image, kind: str, **options: object) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP", "WEBP", "JPEG"])
def test_usual_formats_give_rgb(kind: str) -> None:
    read = read_image(coded(Image.fromarray(COLOURS), kind))
    assert read.dtype == np.uint8
    assert read.shape == (96, 256, 3)
    np.testing.assert_allclose(read.astype(int), COLOURS, atol=0 if kind in ("PNG", "TIFF", "BMP") else 30)
    assert np.abs(read.astype(int) - COLOURS).mean() < 4


def test_palette_bilevel_and_grey() -> None:
    picture = Image.fromarray(COLOURS)
    for mode in ("P", "1", "L"):
        assert read_image(coded(picture.convert(mode), "PNG")).shape == (96, 256, 3)
    np.testing.assert_array_equal(read_image(coded(Image.fromarray(RAMP), "PNG"))[..., 1], RAMP)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters = np.zeros((96, 128, 3), np.uint8)
    quarters[:48, :64] = (250, 0, 0)  # red above left
    stored = {
        1: quarters, 2: quarters[:, ::-1], 3: quarters[::-1, ::-1], 4: quarters[::-1],
        5: quarters.transpose(1, 0, 2), 6: np.rot90(quarters),
        7: quarters[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(quarters, -1),
    }[orientation]  # fmt: skip
    read = read_image(coded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif))
    np.testing.assert_array_equal(read, quarters)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_alpha_lies_over_white(mode: str) -> None:
    picture = Image.fromarray(COLOURS).convert(mode)
    picture.putalpha(Image.fromarray(RAMP))
    read = read_image(coded(picture, "PNG"))
    assert (read[:, 0] == 255).all()
    np.testing.assert_array_equal(
        read[:, 255], np.asarray(Image.fromarray(COLOURS).convert(mode[:-1]).convert("RGB"))[:, 255]
    )


def test_transparent_palette_lies_over_white() -> None:
    picture = Image.new("P", (80, 80), 3)
    picture.putpalette([0] * 9 + [10, 200, 30])
    assert (read_image(coded(picture, "PNG", transparency=3)) == 255).all()


def test_16_bit_pictures() -> None:
    wide = RAMP.astype(np.uint16) * 257
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(read_image(coded(Image.fromarray(wide), kind))[..., 0], RAMP)
    rgb = cv2.imencode(".png", COLOURS[..., ::-1].astype(np.uint16) * 257)[1].tobytes()
    np.testing.assert_array_equal(read_image(rgb), COLOURS)


def test_float_pictures() -> None:
    np.testing.assert_array_equal(
        read_image(coded(Image.fromarray(RAMP / np.float32(255)), "TIFF"))[..., 0], RAMP
    )


def test_cmyk() -> None:
    read = read_image(coded(Image.fromarray(COLOURS).convert("CMYK"), "JPEG", quality=95))
    assert np.abs(read.astype(int) - COLOURS).mean() < 4


def test_an_embedded_profile_is_applied_and_a_broken_one_does_not_hurt() -> None:
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    picture = Image.fromarray(COLOURS)
    np.testing.assert_allclose(
        read_image(coded(picture, "PNG", icc_profile=lab)).astype(int), COLOURS, atol=1
    )
    np.testing.assert_array_equal(read_image(coded(picture, "PNG", icc_profile=b"no profile")), COLOURS)


@pytest.mark.parametrize(
    "junk", [b"hello", b"\0" * 1000, b"<svg xmlns='http://www.w3.org/2000/svg'/>", b"%!PS-Adobe EPSF"]
)
def test_what_is_no_picture_is_refused(junk: bytes) -> None:
    with pytest.raises(BadInput, match=r"x\.jpg: .*(not a picture|damaged).*; .+"):
        read_image(junk, "x.jpg")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF", "BMP", "GIF"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9])
def test_truncated_pictures_are_refused(kind: str, part: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (120, 120, 3), np.uint8)
    whole = coded(Image.fromarray(noise), kind)
    with pytest.raises(BadInput, match=r"cut\.img"):
        read_image(whole[: int(part * len(whole))], "cut.img")


def test_tiny_pictures_are_refused() -> None:
    side = MIN_SIDE - 1
    with pytest.raises(BadInput, match=rf"t\.png: {side}x200 is smaller than {MIN_SIDE} pixels"):
        read_image(coded(Image.new("RGB", (side, 200)), "PNG"), "t.png")


@pytest.mark.parametrize("side", [12_000, 60_000])
def test_gigapixels_are_refused_from_the_header(side: int) -> None:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0))
    with pytest.raises(
        BadInput, match="more than 120,000,000 pixels"
    ) as caught:  # there is nothing to decode
        read_image(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")), "huge.png")
    assert caught.value.http_status == 413


def test_pixels_that_are_not_numbers_are_refused() -> None:
    values = np.full((80, 80), 0.5, np.float32)
    values[3, 4] = np.nan
    with pytest.raises(BadInput, match=r"f\.tif: .*NaN"):
        read_image(coded(Image.fromarray(values), "TIFF"), "f.tif")


def test_missing_empty_and_folder(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.png"):
        read_image(tmp_path / "none.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(BadInput, match=r"empty\.png: .*empty"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(BadInput, match="not a file"):
        read_image(tmp_path)
    with pytest.raises((BadInput, NotFound)):
        read_image("a\0b")
    with pytest.raises(BadInput, match="cannot be opened"):
        read_image("x" * 5000)


def test_written_pictures_come_back(tmp_path: Path) -> None:
    write_image(tmp_path / "a.png", COLOURS)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), COLOURS)
    assert [f.name for f in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(BadInput, match=r"mkdir -p"):
        write_image(tmp_path / "no" / "a.png", COLOURS)
    with pytest.raises(BadInput, match=r"\.xyz"):
        write_image(tmp_path / "a.xyz", COLOURS)


def test_a_file_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "p.png"
    write_image(path, COLOURS)
    path.chmod(0)
    try:
        path.read_bytes()
    except PermissionError:
        with pytest.raises(Forbidden, match=r"p\.png"):
            read_image(path)
    else:
        pytest.skip("this user may read everything")
