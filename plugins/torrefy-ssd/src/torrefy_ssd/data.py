"""AnnotatedData: pictures and the objects in them."""

from __future__ import annotations

from torrefy.layers.base import Outline, layer
from torrefy.layers.data import Data
from torrefy.schema import schema

from torrefy_ssd.objects import NUMBERS
from torrefy_ssd.schema import ResizeParameter


@layer("AnnotatedData")
class AnnotatedData(Data):
    """Pictures from an LMDB or LevelDB, and the objects in them.

    Tops: N×C×H×W, or the database's own size unless `transform_param` tells one, by `crop_size`
    or `resize_param`; and, if asked for, 1×1×G×8, a row (picture, label, instance, xmin, ymin,
    xmax, ymax, difficult) for each object, the boxes in shares of the picture, the pictures
    numbered in the batch. A batch without objects has one row of −1.

    The tops are inputs of the net: the database is not opened. `data_param` is Data's;
    `annotated_data_param` tells how crops are taken, `transform_param` how they are changed.
    """

    example = (
        'data_param { source: "trainval_lmdb" batch_size: 32 backend: LMDB }\n'
        "annotated_data_param {\n"
        "  batch_sampler { max_sample: 1 max_trials: 1 }\n"
        '  label_map_file: "labelmap.prototxt"\n'
        "}\n"
        "transform_param { mean_value: 104 mean_value: 117 mean_value: 123\n"
        "  resize_param { resize_mode: WARP height: 300 width: 300 } }"
    )

    def outline(self) -> list[Outline]:
        """A batch of pictures, and the objects; how many, only the data tell."""
        return [(self.batch(), *self.item()), (1, 1, "G", NUMBERS)][: self.num_tops]

    def item(self) -> Outline:
        """Channels, and the size where it is said."""
        transform = self.spec.transform_param
        channels, height, width = super().item()
        if transform.crop_size:
            return channels, height, width
        crop_h, crop_w, resizes = (
            schema().part(transform, name) for name in ("crop_h", "crop_w", "resize_param")
        )
        if crop_h and crop_w:
            return channels, crop_h, crop_w
        sizes = {_size(ResizeParameter.read(resize)) for resize in resizes}
        return channels, *(sizes.pop() if len(sizes) == 1 else (height, width))


def _size(resize: ResizeParameter) -> tuple[int | str, int | str]:
    """Height and width that pictures are brought to, where that is told."""
    if resize.resize_mode == "FIT_SMALL_SIZE":  # one side alone comes to its size
        return "H", "W"
    return resize.height or "H", resize.width or "W"
