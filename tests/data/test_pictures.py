"""Pictures: which files names stand for, and every kind of pixel read right or refused."""

from __future__ import annotations

import io
import os
import struct
import threading
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from torrefy.data.pictures import find_pictures, read_picture
from torrefy.errors import PictureError

# Six pixels, all different: 2 rows, 3 columns, R G B.
COLOURS = np.array(
    [
        [[250, 10, 20], [30, 240, 40], [50, 60, 230]],
        [[0, 0, 0], [255, 255, 255], [120, 130, 140]],
    ],
    np.uint8,
)
GREYS = np.array([[0, 1, 127], [128, 254, 255]], np.uint8)


def saved(folder: Path, image: Image.Image, name: str = "p.png", **options: object) -> Path:
    path = folder / name
    image.save(path, **options)  # type: ignore[arg-type]
    return path


def refusal(path: Path | str, colour: str = "BGR") -> str:
    with pytest.raises(PictureError) as error:
        read_picture(path, colour)
    return str(error.value)


# --- Finding ---


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder tree of pictures and other things, as the working folder."""
    for name in (
        "b.jpg",
        "a.PNG",
        "notes.txt",
        ".hidden.jpg",
        "sub/c.webp",
        ".git/d.jpg",
        "x[1].gif",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*names: str, listed: str | None = None) -> list[str]:
    stream = None if listed is None else io.StringIO(listed)
    return [path.as_posix() for path in find_pictures(names, stream)]


def test_a_folder_stands_for_the_pictures_in_and_below_it_sorted(photos: Path) -> None:
    assert found("photos") == [
        "photos/a.PNG", "photos/b.jpg", "photos/sub/c.webp", "photos/x[1].gif",
    ]  # fmt: skip


def test_a_named_file_is_taken_whatever_it_is_called(photos: Path) -> None:
    assert found("photos/notes.txt", "photos/.hidden.jpg") == [
        "photos/notes.txt", "photos/.hidden.jpg",
    ]  # fmt: skip


def test_a_pattern_that_the_shell_left_is_matched_and_sorted(photos: Path) -> None:
    assert found("photos/*.*g") == ["photos/b.jpg"]
    assert found("photos/[ab].*") == ["photos/a.PNG", "photos/b.jpg"]
    assert found("**/*.webp") == ["photos/sub/c.webp"]
    assert found("ph*s/s*") == ["photos/sub/c.webp"]


def test_a_file_that_is_called_like_a_pattern_is_that_file(photos: Path) -> None:
    assert found("photos/x[1].gif") == ["photos/x[1].gif"]


def test_duplicates_and_order_are_kept(photos: Path) -> None:
    assert found("photos/b.jpg", "photos/a.PNG", "photos/b.jpg") == [
        "photos/b.jpg", "photos/a.PNG", "photos/b.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("listed", ["photos/b.jpg\r\n\nphotos/sub\n", "photos/b.jpg\0photos/sub\0"])
def test_a_dash_stands_for_the_listed_names(photos: Path, listed: str) -> None:
    assert found("photos/a.PNG", "-", listed=listed) == [
        "photos/a.PNG", "photos/b.jpg", "photos/sub/c.webp",
    ]  # fmt: skip


def test_a_name_that_leads_nowhere_is_kept_and_reading_it_says_why(photos: Path) -> None:
    assert found("empty", "gone*.jpg", "photos/c.jpg") == ["empty", "gone*.jpg", "photos/c.jpg"]
    assert refusal("empty") == "empty: there is no picture in this folder"
    assert refusal("gone*.jpg") == "gone*.jpg: no file matches this pattern"
    assert refusal("photos/c.jpg") == "photos/c.jpg: no such file"


def test_links_to_folders_are_not_followed_round_in_circles(photos: Path) -> None:
    (photos / "photos" / "sub" / "up").symlink_to(photos / "photos")
    assert "photos/sub/c.webp" in found("photos")
    assert len(found("photos")) == 4


# --- Reading ---


def test_channels_come_in_the_order_that_is_asked_for(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(COLOURS))
    assert np.array_equal(read_picture(path, "RGB"), COLOURS)
    bgr = read_picture(path)
    assert np.array_equal(bgr, COLOURS[..., ::-1])
    assert (bgr.dtype, bgr.flags.c_contiguous, bgr.flags.writeable) == (np.uint8, True, True)
    with pytest.raises(PictureError, match='colour must be one of BGR, RGB, GRAY, found "GREY"'):
        read_picture(path, "GREY")


def test_grey_of_colours_is_opencvs_fixed_point(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(COLOURS))
    r, g, b = (COLOURS[..., i].astype(int) for i in range(3))
    assert np.array_equal(
        read_picture(path, "GRAY")[..., 0], (9797 * r + 19234 * g + 3737 * b) >> 15
    )


@pytest.mark.parametrize(("case", "colour"), [("image_plain", "BGR"), ("image_gray", "GRAY")])
def test_pixels_are_those_that_caffe_read(shared: Path, case: str, colour: str) -> None:
    data = shared / "golden" / "data"
    arrays = np.load(data / "cases" / case / "case.npz")
    expected = np.concatenate([arrays[f"out{k}:data"] for k in (1, 2, 3)])
    lines = (data / "list.txt").read_text().splitlines()
    assert len(lines) == len(expected)
    for line, pixels in zip(lines, expected, strict=True):
        picture = read_picture(data / "images" / line.rsplit(" ", 1)[0], colour)
        assert np.array_equal(picture.transpose(2, 0, 1), pixels), line


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_pictures_have_equal_channels(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(GREYS)
    expected = GREYS
    if mode == "LA":
        image.putalpha(Image.fromarray(np.full((2, 3), 7, np.uint8)))
    if mode == "1":
        image = image.point(lambda v: 255 if v > 127 else 0).convert("1")
        expected = np.where(GREYS > 127, 255, 0)
    path = saved(tmp_path, image)
    assert np.array_equal(read_picture(path, "GRAY"), expected[..., None])
    assert np.array_equal(read_picture(path), np.repeat(expected[..., None], 3, 2))


def test_transparency_is_dropped_and_the_colour_below_kept(tmp_path: Path) -> None:
    image = Image.fromarray(COLOURS)
    image.putalpha(Image.fromarray(np.array([[0, 1, 128], [0, 255, 0]], np.uint8)))
    for name in ("p.png", "p.tiff"):
        assert np.array_equal(read_picture(saved(tmp_path, image, name), "RGB"), COLOURS)


@pytest.mark.parametrize("transparency", [None, 1, bytes([0, 128, 255, 0, 7, 0])])
@pytest.mark.filterwarnings("error")
def test_a_palette_becomes_its_colours(tmp_path: Path, transparency: object) -> None:
    image = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3), "L")
    image = image.convert("P")
    image.putpalette(COLOURS.tobytes())
    options = {} if transparency is None else {"transparency": transparency}
    path = saved(tmp_path, image, **options)
    with Image.open(path) as stored:
        assert stored.mode == "P"
    assert np.array_equal(read_picture(path, "RGB"), COLOURS)


@pytest.mark.parametrize("name", ["p.png", "p.tiff", "p.pgm"])
def test_sixteen_bits_become_eight_by_their_upper_byte(tmp_path: Path, name: str) -> None:
    values = np.array([[0, 255, 256], [32767, 32768, 65535]], np.uint16)
    path = saved(tmp_path, Image.fromarray(values), name)
    assert read_picture(path, "GRAY")[..., 0].tolist() == [[0, 0, 1], [127, 128, 255]]


def png16(rgb: list[int]) -> bytes:
    """A PNG of one pixel with 16 bits to a channel, which Pillow can't write."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 1, 1, 16, 2, 0, 0, 0)
    pixels = zlib.compress(b"\0" + struct.pack(">3H", *rgb))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    )


def test_sixteen_bits_of_colour_become_eight_by_their_upper_byte(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(png16([0x12FF, 0x8000, 0xFFFF]))
    assert read_picture(path, "RGB").tolist() == [[[0x12, 0x80, 0xFF]]]


def test_floats_go_from_0_to_1_and_others_are_refused(tmp_path: Path) -> None:
    values = np.array([[0, 0.5, 1]], np.float32)
    path = saved(tmp_path, Image.fromarray(values), "p.tiff")
    assert read_picture(path, "GRAY")[..., 0].tolist() == [[0, 128, 255]]
    wrong = saved(tmp_path, Image.fromarray(values * 3 - 1), "w.tiff")
    assert refusal(wrong) == (
        f"{wrong}: its pixels go from -1 to 2; expected 0 to 1. Save it with 8 bits."
    )
    nan = saved(tmp_path, Image.fromarray(values * np.nan), "n.tiff")
    assert "its pixels go from nan to nan" in refusal(nan)


def test_integers_of_32_bits_go_to_65535_and_others_are_refused(tmp_path: Path) -> None:
    values = np.array([[0, 65535, 256]], np.int32)
    path = saved(tmp_path, Image.fromarray(values), "p.tiff")
    assert read_picture(path, "GRAY")[..., 0].tolist() == [[0, 255, 1]]
    wrong = saved(tmp_path, Image.fromarray(values + 1), "w.tiff")
    assert "its pixels go from 1 to 65536; expected 0 to 65535" in refusal(wrong)


def test_a_cmyk_jpeg_comes_out_in_its_colours(tmp_path: Path) -> None:
    red = Image.new("RGB", (16, 16), (200, 30, 40))
    path = saved(tmp_path, red.convert("CMYK"), "p.jpg", quality=95)
    assert b"Adobe" in path.read_bytes()  # so its inks are stored upside down
    assert np.abs(read_picture(path, "RGB").astype(int) - (200, 30, 40)).max() <= 4


def test_other_kinds_of_colour_are_refused_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.new("LAB", (2, 2)), "p.tiff")
    assert refusal(path) == f"{path}: pixels of the kind LAB can't be read. Save it as RGB."
    path = saved(tmp_path, Image.new("YCbCr", (16, 16), (128, 128, 128)), "y.jpg")
    assert np.abs(read_picture(path).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["p.png", "p.jpg", "p.tiff"])
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, name: str) -> None:
    upright = np.zeros((16, 24, 3), np.uint8)
    upright[:8, :8] = 255  # the upper left corner
    lies = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = saved(tmp_path, Image.fromarray(np.ascontiguousarray(lies)), name, exif=exif)
    assert np.abs(read_picture(path).astype(int) - upright).max() <= 8


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_a_broken_orientation_leaves_the_picture_as_it_lies(tmp_path: Path) -> None:
    path = saved(tmp_path, Image.fromarray(COLOURS), exif=b"Exif\0\0MM\0*\0\0\0\xff\xff\xff")
    assert read_picture(path).shape == (2, 3, 3)


@pytest.mark.parametrize("name", ["p.gif", "p.webp", "p.png", "p.tiff"])
def test_the_first_frame_of_several_is_taken(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if name == "p.webp" else {}
    path = saved(tmp_path, frames[0], name, save_all=True, append_images=frames[1:], **options)
    assert read_picture(path, "RGB")[4, 4].tolist() == [255, 0, 0]


# --- Refusing ---


def test_a_picture_that_is_cut_short_is_named(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    for name in ("p.jpg", "p.png", "p.bmp", "p.gif", "p.ppm"):
        path = saved(tmp_path, Image.fromarray(noise), name)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        assert refusal(path) == f"{path}: the picture is cut short"


def test_a_decompression_bomb_is_refused_before_it_goes_off(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    data = bytearray(png16([0, 0, 0]))
    data[16:24] = struct.pack(">II", 50_000, 50_000)
    data[29:33] = struct.pack(">I", zlib.crc32(bytes(data[12:29])))
    path.write_bytes(data)
    assert refusal(path) == (
        f"{path}: the picture is too large: Image size (2500000000 pixels) exceeds limit of "
        "178956970 pixels"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b"hello, world", "this is not a picture"),
        (b"\xff\xd8\xff\xe0", "this is a JPEG picture that is broken or cut short"),
        (b"%PDF-1.7 ...", "this is a PDF document, not a picture"),
        (b"<!DOCTYPE html>", "this is a web page (a download that failed?), not a picture"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 1 1\n", "this is not a picture"),
        (bytes(100), "this is a file of zero bytes, not a picture"),
        (
            b"\0\0\0\x18ftypheic\0\0\0\0mif1heic",
            "this is a HEIC picture, which Pillow can't read. Save it as JPEG.",
        ),
    ],
)
def test_what_is_no_picture_is_called_by_its_name(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "p.jpg"
    path.write_bytes(content)
    assert refusal(path) == f"{path}: {expected}"


def test_a_pipe_is_read_like_a_file(tmp_path: Path) -> None:
    data = saved(tmp_path, Image.fromarray(COLOURS)).read_bytes()
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(data,))
    writer.start()
    assert np.array_equal(read_picture(pipe, "RGB"), COLOURS)
    writer.join()


def sample(kind: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(stream, kind)
    return stream.getvalue()


SAMPLES = {kind: sample(kind) for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF", "PPM", "WEBP")}


@settings(max_examples=300, deadline=None)
@pytest.mark.filterwarnings("ignore")  # Pillow remarks on broken tags
@given(data=st.data(), kind=st.sampled_from(sorted(SAMPLES)))
def test_mutated_pictures_give_nothing_but_a_picture_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, kind: str
) -> None:
    content = bytearray(SAMPLES[kind])
    for _ in range(data.draw(st.integers(1, 8))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "mutated"
    path.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    try:
        assert read_picture(path).dtype == np.uint8
    except PictureError as error:
        assert str(path) in str(error)


def test_the_grey_of_a_jpeg_is_its_own_luminance(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    path = saved(tmp_path, Image.fromarray(pixels), "p.jpg", quality=80)
    with Image.open(path) as image:
        image.draft("YCbCr", image.size)
        luminance = np.asarray(image)[..., 0]
    np.testing.assert_array_equal(read_picture(path, "GRAY")[..., 0], luminance)
    assert read_picture(path).shape == (16, 24, 3)
