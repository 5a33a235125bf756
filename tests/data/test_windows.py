"""R-CNN's windows: which are drawn, how they are cut out; Caffe's own are in tests/golden."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from torrefy.data.draws import Draws
from torrefy.data.sources.window import (
    Window,
    WindowSource,
    WindowTransformer,
    read_windows,
)
from torrefy.errors import DataError, RecordError

FILE = """# 0
a b.png
3
20
24
3
4 0.9 3 2 14 12
0 0.1 10 8 20 17
2 0.4 0 0 5 5
# 1
c.png
3
8
8
0
"""


def windows(tmp_path: Path, text: str) -> Path:
    (tmp_path / "w.txt").write_text(text)
    return tmp_path / "w.txt"


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(DataError) as error:
        read_windows(windows(tmp_path, text))
    return str(error.value).replace(f"{tmp_path}/", "")


def test_overlap_tells_foreground_from_background(tmp_path: Path) -> None:
    path = windows(tmp_path, FILE)
    foreground, background = read_windows(path, root="pics/", bg_threshold=0.3)
    assert foreground == [Window("pics/a b.png", 4, 3, 2, 14, 12, 7)]
    assert background == [Window("pics/a b.png", 0, 10, 8, 20, 17, 8)]
    assert [w.label for w in read_windows(path, fg_threshold=0.4)[0]] == [4, 2]


def test_a_wrong_window_file_is_told_by_line(tmp_path: Path) -> None:
    assert refusal(tmp_path, "x\n") == 'w.txt:1:1: expected "# 0" before a picture, found "x"'
    assert refusal(tmp_path, FILE.replace("20\n24", "20\n2x")) == (
        'w.txt:5:1: expected width, found "2x"'
    )
    assert refusal(tmp_path, FILE.replace(" 12\n", "\n")) == (
        'w.txt:7:1: expected class overlap x1 y1 x2 y2, found "4 0.9 3 2 14"'
    )
    assert refusal(tmp_path, FILE.replace("4 0.9", "0 0.9")) == (
        'w.txt:7:1: expected a class above 0 for a foreground window, found "0 0.9 3 2 14 12"'
    )
    assert refusal(tmp_path, "# 0\na.png\n3\n9\n9\n5\n1 1 0 0 1 1\n") == (
        "w.txt: the file ends where a window should be"
    )
    assert refusal(tmp_path, "# 0\na.png\n3\n9\n9\n0\n") == "w.txt: there is no window in this file"


def test_a_batch_begins_with_its_background() -> None:
    one = Window("a.png", 1, 0, 0, 1, 1)
    source = WindowSource([one] * 3, [one] * 5, 0.25)
    order = source.order(0, 10)
    drawn = [[order.index(10 * batch + i) for i in range(10)] for batch in range(50)]
    assert all(max(batch[:8]) < 5 <= min(batch[8:]) for batch in drawn)
    assert {i for batch in drawn for i in batch} == set(range(8))
    assert source.instead(4) == 0
    assert source.instead(7) == 5


def test_windows_of_a_kind_that_is_missing_are_told() -> None:
    with pytest.raises(DataError) as error:
        WindowSource([], [Window("a.png", 0, 0, 0, 1, 1)], 0.25).order(0, 4)
    assert str(error.value) == (
        "a batch takes 1 foreground windows, but there is none. Look at fg_threshold and "
        "fg_fraction."
    )
    WindowSource([], [Window("a.png", 0, 0, 0, 1, 1)], 0.25).order(0, 3)


PICTURE = np.random.default_rng(0).integers(1, 256, (3, 9, 11), np.uint8)


def cut(transform: WindowTransformer, *box: int, position: int = 0) -> np.ndarray:
    item = (PICTURE, np.float32(1), np.array(box))
    return transform(item, Draws(0, position))[0]


def test_a_window_of_the_crop_s_size_is_taken_as_it_is() -> None:
    made = cut(WindowTransformer(crop=4, mean=[1, 2, 3], scale=2), 2, 3, 5, 6)
    expected = (PICTURE[:, 3:7, 2:6] - np.float32([1, 2, 3]).reshape(3, 1, 1)) * 2
    np.testing.assert_array_equal(made, expected)


def test_half_of_the_windows_are_mirrored_and_what_is_beyond_the_picture_too() -> None:
    transform = WindowTransformer(crop=8, context_pad=2, mirror=True)
    plain = cut(WindowTransformer(crop=8, context_pad=2), 0, 3, 3, 6)
    assert not plain[:, :, :2].any()
    made = [cut(transform, 0, 3, 3, 6, position=i) for i in range(100)]
    turned = sum(not one[:, :, 6:].any() for one in made)
    assert 30 < turned < 70


def test_the_centre_of_a_mean_image_counts() -> None:
    mean = np.random.default_rng(1).normal(size=(3, 8, 8)).astype(np.float32)
    made = cut(WindowTransformer(crop=4, mean=mean), 2, 3, 5, 6)
    np.testing.assert_array_equal(made, PICTURE[:, 3:7, 2:6] - mean[:, 2:6, 2:6])


@pytest.mark.parametrize("box", [(5, 0, 4, 3), (0, 0, 11, 3), (0, -1, 3, 3)])
def test_a_window_outside_its_picture_is_refused(box: tuple[int, ...]) -> None:
    with pytest.raises(RecordError) as error:
        cut(WindowTransformer(crop=4), *box)
    told = " ".join(map(str, box))
    assert str(error.value) == f"the window {told} is not within the picture of 11x9"


def test_settings_that_can_not_be_are_refused() -> None:
    with pytest.raises(DataError, match="context_pad 4 leaves nothing of crop_size 8"):
        WindowTransformer(crop=8, context_pad=4)
    with pytest.raises(DataError, match="the mean image is 4x4, too small for crop_size 8"):
        WindowTransformer(crop=8, mean=np.zeros((3, 4, 4), np.float32))
