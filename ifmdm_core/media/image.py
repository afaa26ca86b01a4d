"""Reading any usual picture as upright 8-bit sRGB, and writing pictures.

Sizes are checked from the header before anything is decoded; only formats that Pillow decodes itself are opened.
"""

from __future__ import annotations

import io
import os
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow
from PIL import ImageCms, ImageOps, UnidentifiedImageError

from ifmdm_core.errors import BadInput
from ifmdm_core.media.files import input_file, published

MIN_SIDE = 64  # pixels
MAX_PIXELS = 120_000_000  # about 360 MB as RGB
BACKDROP = (255, 255, 255)  # what shows through transparent pixels
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000", "AVIF")

Image = npt.NDArray[np.uint8]


def read_image(source: str | os.PathLike[str] | bytes, name: str | None = None) -> Image:
    """A picture file (or its bytes) as RGB uint8 [H, W, 3], upright, alpha laid over white.

    16-bit and float pictures are brought to 8 bits, CMYK and tagged colours to sRGB; of several frames the first is
    taken. Raises NotFound, Forbidden or BadInput naming the file (`name` where bytes are given).
    """
    if isinstance(source, bytes):
        name = name or "the picture"
        if not source:
            raise BadInput(f"{name}: is empty (0 bytes)", fix="give a complete picture")
        file: Path | io.BytesIO = io.BytesIO(source)
    else:
        file = input_file(source, "picture")
        name = name or str(file)
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # Pillow warns of size and odd tags; the limits and errors below decide
        return _read(file, name)


def write_image(path: str | os.PathLike[str], image: Image) -> None:
    """Write RGB uint8 [H, W, 3] as PNG, JPEG or WebP by the name's ending; nothing partial is left on failure."""
    suffix = Path(path).suffix.lower()
    if suffix not in (".png", ".jpg", ".jpeg", ".webp"):
        raise BadInput(
            f"{path}: cannot write pictures as {suffix or 'a file without ending'!r}", fix="use .png or .jpg"
        )
    with published(path) as temporary:
        Pillow.fromarray(np.ascontiguousarray(image)).save(temporary, quality=95)


def _read(file: Path | io.BytesIO, name: str) -> Image:
    try:
        Pillow.init()  # else only the commonest formats are known
        picture = Pillow.open(file, formats=FORMATS)
    except UnidentifiedImageError as error:
        raise BadInput(f"{name}: is not a picture", fix="give a JPEG, PNG, WebP, TIFF or BMP file") from error
    except Pillow.DecompressionBombError as error:
        raise BadInput(
            f"{name}: has more than {MAX_PIXELS:,} pixels", fix="scale it down", too_large=True
        ) from error
    except Exception as error:  # decoders of hostile bytes raise anything: SyntaxError, struct.error, ...
        raise BadInput(f"{name}: damaged picture ({error})", fix="export or download it again") from error
    with picture:
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise BadInput(
                f"{name}: {width}x{height} is more than {MAX_PIXELS:,} pixels",
                fix="scale it down, e.g. to 4000x3000",
                too_large=True,
            )
        if min(width, height) < MIN_SIDE:
            raise BadInput(
                f"{name}: {width}x{height} is smaller than {MIN_SIDE} pixels",
                fix=f"give at least {MIN_SIDE}x{MIN_SIDE}",
            )
        try:
            picture.load()
            upright = ImageOps.exif_transpose(picture)
            return np.array(_rgb(upright, name))
        except BadInput:
            raise
        except Exception as error:  # as above
            raise BadInput(
                f"{name}: damaged or truncated picture ({error})", fix="export or download it again"
            ) from error


def _rgb(picture: Pillow.Image, name: str) -> Pillow.Image:
    """Any mode of Pillow as 8-bit sRGB."""
    if picture.mode in ("I", "F") or picture.mode.startswith("I;"):
        return Pillow.fromarray(_to_8_bits(np.asarray(picture, np.float32), name)).convert("RGB")
    if "transparency" in picture.info or picture.mode in ("PA", "La"):
        picture = picture.convert("RGBA")
    alpha = picture.getchannel("A") if picture.mode in ("RGBA", "LA") else None
    colour = picture.convert({"RGBA": "RGB", "LA": "L"}.get(picture.mode, picture.mode)) if alpha else picture
    colour = _to_srgb(colour)
    if alpha is None:
        return colour
    backdrop = Pillow.new("RGB", colour.size, BACKDROP)
    backdrop.paste(colour, mask=alpha)
    return backdrop


def _to_8_bits(values: npt.NDArray[np.float32], name: str) -> Image:
    """Grey [H, W] of 16-bit, 32-bit or float pictures -> uint8 [H, W]: the smallest usual range that holds it."""
    if not np.isfinite(values).all():
        raise BadInput(f"{name}: has pixels that are not numbers (NaN)", fix="export it as 8-bit PNG or JPEG")
    top = float(values.max(initial=0.0))
    full = next((limit for limit in (1.0, 255.0, 65535.0) if top <= limit), top)
    return np.clip(values * (255.0 / full) + 0.5, 0, 255).astype(np.uint8)


def _to_srgb(picture: Pillow.Image) -> Pillow.Image:
    """Apply an embedded colour profile; without one, or with a broken one, Pillow's plain conversion."""
    profile = picture.info.get("icc_profile")
    if profile and picture.mode in ("RGB", "CMYK", "L"):
        try:
            converted = ImageCms.profileToProfile(
                picture, io.BytesIO(profile), ImageCms.createProfile("sRGB"), outputMode="RGB"
            )
            if converted is not None:
                return converted
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # a broken profile must not cost the picture
    return picture.convert("RGB")
