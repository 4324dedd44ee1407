"""Opening image files that others made: what Pillow decodes becomes 8-bit RGB, everything else one clear reason."""

import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from unsee.errors import UserError

MAX_PIXELS = 80_000_000
MIN_SIDE = 16
# Photographs only: Pillow hands EPS to Ghostscript and WMF to the system, and recognises TGA by next to nothing.
FORMATS = ("AVIF", "BMP", "GIF", "ICO", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")


def read_image(path: Path, *, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The first frame of an image file, upright, as 8-bit RGB without metadata.

    EXIF rotation is applied, transparent parts become white, and 16-bit, 32-bit and floating-point greyscale is scaled
    to 8 bit. Nothing is decoded before the size in the header was found to be acceptable.

    Raises:
        UserError: the file is missing, empty, in no known format, damaged, or smaller than `MIN_SIDE` pixels on a side
            or larger than `max_pixels` in all.
    """
    return _decode(path, str(path), max_pixels)[0]


def image_format(data: bytes, name: str) -> str:
    """The format ("JPEG") of an image file's content, if `read_image` would take it; `name` says what it is.

    Raises:
        UserError: as `read_image`.
    """
    return _decode(BytesIO(data), name, MAX_PIXELS)[1]


def _check_file(path: Path) -> None:
    if not path.exists():
        raise UserError(f"{path} does not exist; add the file or correct the path")
    if not path.is_file():
        raise UserError(f"{path} is not a file; give the path of an image")
    if path.stat().st_size == 0:
        raise UserError(f"{path} is empty (0 bytes); replace it with an intact copy")


def _decode(file: Path | BytesIO, name: str, max_pixels: int) -> tuple[Image.Image, str]:
    """The image and its format."""
    try:
        if isinstance(file, Path):
            _check_file(file)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(file, formats=FORMATS) as image:
                _check_size(name, image.size, max_pixels)
                return _to_rgb(image), str(image.format)
    except UserError:
        raise
    except Image.DecompressionBombError:
        raise UserError(f"{name} has more than {max_pixels:,} pixels; scale it down") from None
    except UnidentifiedImageError:
        raise UserError(f"{name} is not an image in a known format; save it as JPEG or PNG") from None
    except Exception as error:  # decoders raise whatever a damaged file drives them to
        raise UserError(f"{name} cannot be read ({error}); replace it with an intact copy") from error


def _check_size(name: str, size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if width * height > max_pixels:
        raise UserError(f"{name} is {width} x {height}, more than {max_pixels:,} pixels; scale it down")
    if min(size) < MIN_SIDE:
        raise UserError(f"{name} is {width} x {height}; give an image of at least {MIN_SIDE} pixels on each side")


def _to_rgb(image: Image.Image) -> Image.Image:
    upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith(("I", "F")):
        upright = _to_eight_bit(upright)
    elif upright.has_transparency_data:
        upright = _on_white(upright)
    rgb = upright.convert("RGB")
    rgb.info.clear()  # no colour profile, camera or place travels on into the benchmark
    return rgb


def _to_eight_bit(image: Image.Image) -> Image.Image:
    """Scale 16-bit values by their full range, wider and floating-point ones by the range that occurs in the image."""
    values = np.nan_to_num(np.asarray(image).astype(np.float64))
    low, high = 0.0, 65535.0
    if image.mode == "F" or values.min() < low or values.max() > high:
        low, high = values.min(), values.max()
    span = (high - low) or 1.0
    return Image.fromarray(np.rint((values - low) / span * 255).astype(np.uint8))


def _on_white(image: Image.Image) -> Image.Image:
    rgba = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
