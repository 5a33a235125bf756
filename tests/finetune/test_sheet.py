"""Contact sheets: their size, what is drawn where, captions of any letters."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from torrefy.finetune.lettering import font_for, shown, usual_font
from torrefy.finetune.sheet import GUESSED, TRUE, Tile, contact_sheet, shrunk, thumbnail


def plain(height: int, width: int, colour: tuple[int, int, int] = (200, 0, 0)) -> Tile:
    return Tile(np.full((height, width, 3), colour, np.uint8), ("a.jpg",))


def colour(text: str) -> tuple[int, ...]:
    return tuple(bytes.fromhex(text[1:]))


@pytest.mark.parametrize(
    ("size", "fitted"),
    [((300, 600), (160, 80)), ((600, 300), (80, 160)), ((1, 5000), (160, 1)), ((8, 8), (160, 160))],
)
def test_pictures_of_any_aspect_fit_into_a_square(
    size: tuple[int, int], fitted: tuple[int, int]
) -> None:
    assert thumbnail(plain(*size)).size == fitted


def test_a_sheet_has_rows_of_columns() -> None:
    sheet = contact_sheet([plain(10, 10)] * 7, columns=3, size=100)
    assert sheet.size == (10 + 3 * 110, 10 + 3 * (100 + 4 + 15 + 10))
    assert sheet.getpixel((60, 60)) == (200, 0, 0)
    assert sheet.getpixel((170, 2 * 129 + 60)) == (255, 255, 255)


def test_tiles_are_taken_one_by_one() -> None:
    held: list[int] = []

    def tiles() -> Iterator[Tile]:
        for i in range(3):
            held.append(i)
            yield plain(4, 4)

    assert contact_sheet(tiles(), size=20).width == 10 + 3 * 30
    assert held == [0, 1, 2]


def test_no_tiles_are_an_empty_sheet() -> None:
    assert contact_sheet([]).height == 10


def test_what_cannot_be_read_is_a_cross() -> None:
    image = thumbnail(Tile(None), 50)
    assert image.getpixel((25, 25)) != (255, 255, 255)
    assert image.getpixel((25, 10)) == (255, 255, 255)


def test_long_captions_are_broken_and_cut_short() -> None:
    lines = (("word " * 200).strip(), "x" * 500)
    sheet = contact_sheet([Tile(plain(4, 4).picture, lines)], size=100)
    assert sheet.height == 10 + 100 + 4 + 6 * 15 + 10


def test_points_are_ringed_and_crossed_where_they_are() -> None:
    tile = Tile(np.zeros((100, 200, 3), np.uint8), (), np.array([[0.5, 0.5]]), np.array([[0.1, 5]]))
    image = np.asarray(thumbnail(tile, 200))
    rings = np.argwhere((image == colour(TRUE)).all(2))
    assert rings.mean(0) == pytest.approx([50, 100], abs=1)
    assert (image == colour(GUESSED)).all(2).any()


def test_large_pictures_are_made_smaller_before_they_are_held() -> None:
    assert shrunk(np.zeros((3000, 1000, 3), np.uint8)).shape == (320, 107, 3)
    assert shrunk(np.zeros((30, 10, 3), np.uint8)).shape == (30, 10, 3)


def test_names_are_shown_on_one_line_without_what_has_no_shape() -> None:
    assert shown("  a\tb\n c\x00\x1b\udcff ") == "a b c\ufffd\ufffd\ufffd"
    assert shown("34\u00a0%") == "34\u00a0%"


def test_the_usual_font_is_taken_where_it_has_the_letters() -> None:
    assert font_for(["käse", "Русская голубая", "عربي"]) == usual_font()
    assert font_for(["no font has this: \U0010fffd"]) is None
