"""Images of every kind come out upright as 8-bit RGB, and what cannot be used says why."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unsee.benchmark.images import FORMATS, read_image
from unsee.errors import UserError

RED, BLUE = (254, 0, 0), (0, 0, 254)


def halves(mode: str = "RGB") -> Image.Image:
    """40 x 20: the left half red, the right half blue."""
    image = Image.new("RGB", (40, 20), RED)
    image.paste(BLUE, (20, 0, 40, 20))
    return image.convert(mode)


def header_only_png(path: Path, width: int, height: int) -> Path:
    """A PNG whose header promises width x height pixels and whose data is almost nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"0")) + chunk(b"IEND", b""))
    return path


def near(pixel: tuple[int, ...], expected: tuple[int, int, int], tolerance: int = 12) -> bool:
    return max(abs(a - b) for a, b in zip(pixel, expected, strict=True)) <= tolerance


@pytest.mark.parametrize(
    ("name", "mode", "options"),
    [
        ("plain.png", "RGB", {}),
        ("plain.jpg", "RGB", {"quality": 95, "subsampling": 0}),
        ("cmyk.jpg", "CMYK", {"quality": 95, "subsampling": 0}),
        ("cmyk.tif", "CMYK", {}),
        ("palette.png", "P", {}),
        ("palette.gif", "P", {}),
        ("alpha.png", "RGBA", {}),
        ("bitmap.bmp", "RGB", {}),
        ("lossless.webp", "RGB", {"lossless": True}),
        ("pixmap.ppm", "RGB", {}),
        ("wavelet.jp2", "RGB", {}),
        ("compressed.tif", "RGB", {"compression": "tiff_lzw"}),
    ],
)
def test_colours_survive_in_every_format(tmp_path, name, mode, options):
    halves(mode).save(tmp_path / name, **options)
    image = read_image(tmp_path / name)
    assert (image.mode, image.size) == ("RGB", (40, 20))
    assert near(image.getpixel((5, 10)), RED)
    assert near(image.getpixel((35, 10)), BLUE)


@pytest.mark.parametrize("name", ["deep.png", "deep.tif", "deep.pgm"])
def test_16_bit_greyscale_is_scaled_and_not_clipped(tmp_path, name):
    values = np.array([[0, 8192, 32768, 65535]], dtype=np.uint16).repeat(16, 0).repeat(16, 1)
    Image.fromarray(values).save(tmp_path / name)
    row = np.asarray(read_image(tmp_path / name))[0, ::16, 0]
    assert row.tolist() == [0, 32, 128, 255]


def test_floating_point_greyscale_is_scaled_by_its_own_range(tmp_path):
    values = np.linspace(-1, 1, 32, dtype=np.float32).repeat(32).reshape(32, 32)
    Image.fromarray(values).save(tmp_path / "float.tif")
    column = np.asarray(read_image(tmp_path / "float.tif"))[:, 0, 0]
    assert (column[0], column[-1]) == (0, 255)


def test_one_bit_and_8_bit_greyscale_become_rgb(tmp_path):
    for mode in ("1", "L"):
        Image.new(mode, (20, 20), 255 if mode == "1" else 77).save(tmp_path / f"{mode}.png")
    assert read_image(tmp_path / "1.png").getpixel((3, 3)) == (255, 255, 255)
    assert read_image(tmp_path / "L.png").getpixel((3, 3)) == (77, 77, 77)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparent_parts_become_white(tmp_path, mode):
    image = Image.new("LA" if mode == "LA" else "RGBA", (20, 20))
    image.paste(Image.new(image.mode, (10, 20), (90, 255) if mode == "LA" else (90, 90, 90, 255)), (0, 0))
    image.convert(mode).save(tmp_path / "image.png")
    read = read_image(tmp_path / "image.png")
    assert near(read.getpixel((2, 10)), (90, 90, 90))
    assert read.getpixel((17, 10)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["moving.gif", "moving.webp", "moving.png"])
def test_the_first_frame_of_an_animation_is_taken(tmp_path, name):
    frames = [Image.new("RGB", (20, 20), colour) for colour in (RED, BLUE, BLUE)]
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], duration=100, lossless=True)
    with Image.open(tmp_path / name) as file:
        assert file.n_frames > 1
    assert near(read_image(tmp_path / name).getpixel((10, 10)), RED)


def test_exif_rotation_is_applied_and_no_metadata_stays(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise to see it upright
    exif[0x010F] = "camera maker"
    halves().save(tmp_path / "turned.jpg", exif=exif, quality=95, subsampling=0)
    image = read_image(tmp_path / "turned.jpg")
    assert image.size == (20, 40)
    assert near(image.getpixel((10, 5)), RED)
    assert near(image.getpixel((10, 35)), BLUE)
    assert image.info == {}
    assert not image.getexif()


def test_the_pixel_limit_is_checked_in_the_header_before_anything_is_decoded(tmp_path):
    with pytest.raises(UserError, match=r"is 9000 x 9000, more than 80,000,000 pixels; scale it down"):
        read_image(header_only_png(tmp_path / "large.png", 9000, 9000))
    with pytest.raises(UserError, match=r"more than 80,000,000 pixels; scale it down"):
        read_image(header_only_png(tmp_path / "bomb.png", 60000, 60000))
    halves().save(tmp_path / "small.png")
    with pytest.raises(UserError, match="more than 100 pixels"):
        read_image(tmp_path / "small.png", max_pixels=100)


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("name", ["photo.jpg", "photo.png", "photo.gif", "photo.webp", "photo.bmp", "photo.tif"])
def test_a_truncated_file_is_refused_with_its_name(tmp_path, name, keep):
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / name)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(len(whole) * keep)])
    with pytest.raises(UserError, match=rf"{name} .*; (replace it with an intact copy|save it as JPEG or PNG)$"):
        read_image(tmp_path / name)


def test_files_that_are_no_images_are_refused(tmp_path):
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("not an image at all")
    (tmp_path / "drawing.eps").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 50 50\n%%EOF\n")
    (tmp_path / "folder.jpg").mkdir()
    Image.new("RGB", (1, 1)).save(tmp_path / "dot.png")
    reasons = {
        "none.jpg": "does not exist",
        "empty.jpg": r"is empty \(0 bytes\)",
        "text.jpg": "not an image in a known format",
        "drawing.eps": "not an image in a known format",
        "folder.jpg": "is not a file",
        "dot.png": "is 1 x 1; give an image of at least 16 pixels",
        f"{'x' * 300}.png": "cannot be read",
    }
    for name, reason in reasons.items():
        with pytest.raises(UserError, match=reason):
            read_image(tmp_path / name)


def test_every_format_is_known_to_pillow():
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)
