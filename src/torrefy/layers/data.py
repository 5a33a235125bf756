"""Layers that read or write data: what they read is an input of the net, fed by whoever runs it."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor

from torrefy.layers.base import Layer, Outline, Shape, layer


class DataLayer(Layer):
    """What the layers that read data have in common."""

    feeds = True
    bottoms = (0, 0)
    tops: ClassVar[tuple[int, int | None]] = (2, 2)

    def outline(self) -> list[Outline]:
        """A batch of items and one label for each."""
        batch = self.batch()
        return [(batch, *self.picture()), (batch,)][: self.num_tops]

    def batch(self) -> int | str:
        """The batch size."""
        if self.p.HasField("batch_size") and not self.p.batch_size:
            raise self.error("batch_size must be above 0, found 0", field="batch_size")
        return self.p.batch_size or "N"

    def item(self) -> Outline:
        """The axes of one item: C×H×W."""
        raise NotImplementedError

    def picture(self) -> Outline:
        """One item as the net gets it: with PCA k numbers, which the file of statistics tells."""
        transform = self.spec.transform_param
        pca = transform.statistics and transform.normalise == transform.PCA
        return ("K", 1, 1) if pca else self.item()

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """What is fed to the net comes out unchanged."""
        return bottoms


@layer("Data")
class Data(DataLayer):
    """Pictures (or other arrays) from an LMDB or LevelDB, and their labels.

    Tops: N×C×H×W, or the database's own size without `transform_param.crop_size`; and N labels,
    which may be left out. The definition tells the channels by force_color, force_gray or a
    mean_value for each. The tops are inputs of the net; `torrefy.data.open` reads the database.
    """

    param = "data_param"
    tops = (1, 2)
    example = 'data_param { source: "train_lmdb" batch_size: 64 backend: LMDB }'

    def item(self) -> Outline:
        """Channels and crop where they are said."""
        transform = self.spec.transform_param
        channels: int | str = "C"
        if len(transform.mean_value) > 1:
            channels = len(transform.mean_value)
        elif transform.force_color or self.p.force_encoded_color:
            channels = 3
        elif transform.force_gray:
            channels = 1
        crop = transform.crop_size
        return (channels, crop or "H", crop or "W")


@layer("ImageData")
class ImageData(DataLayer):
    """Pictures from a list of files, and their labels.

    Tops: N×C×H×W, C being 3, or 1 with `is_color: false`, H and W the crop's, else new_height
    and new_width, else each picture's own; and N labels. The tops are inputs of the net;
    `torrefy.data.open` reads the pictures.

    Beyond Caffe, the source may be a folder with a sub-folder for each class, or a table (.csv,
    .tsv, .jsonl): each further top is then the column of its name, of numbers or arrays.
    """

    param = "image_data_param"
    tops = (2, None)
    example = (
        'image_data_param { source: "train.txt" batch_size: 32 new_height: 256 new_width: 256 }'
    )

    def item(self) -> Outline:
        """Channels, and the size where it is said."""
        height, width = self.p.new_height, self.p.new_width
        if bool(height) != bool(width):
            lacking = "new_width" if height else "new_height"
            given = "new_height" if height else "new_width"
            raise self.error(
                f"{given} is given without {lacking}", field=given, hint="Give both or neither."
            )
        crop = self.spec.transform_param.crop_size
        return (3 if self.p.is_color else 1, crop or height or "H", crop or width or "W")

    def outline(self) -> list[Outline]:
        """As of all; what the columns of a table hold only the table knows."""
        if self.p.source.endswith((".csv", ".tsv", ".jsonl")):
            batch = self.batch()
            return [(batch, *self.picture()), *[(batch, "...")] * (self.num_tops - 1)]
        if self.num_tops > 2:
            raise self.error(
                f"{self.num_tops} tops, but a list tells only labels",
                field="top",
                hint="A table (.csv, .tsv, .jsonl) tells a column for each top.",
            )
        return super().outline()


@layer("WindowData")
class WindowData(DataLayer):
    """Windows of pictures, labelled by their overlap with objects (R-CNN).

    Tops: N×3×S×S, S being `transform_param.crop_size`; and N labels. The tops are inputs of the
    net; `torrefy.data.open` reads the pictures. (Girshick et al. 2014, arXiv:1311.2524.)
    """

    param = "window_data_param"
    example = (
        'window_data_param { source: "windows.txt" batch_size: 128 }\n'
        "transform_param { crop_size: 227 }"
    )

    def item(self) -> Outline:
        """Three channels of the crop's size."""
        crop = self.spec.transform_param.crop_size
        if not crop:
            raise self.error(
                "crop_size is missing",
                field="transform_param",
                hint="Give transform_param { crop_size: … }.",
            )
        return (3, crop, crop)


@layer("MemoryData")
class MemoryData(DataLayer):
    """Arrays that a program hands over, and their labels.

    Tops: N×C×H×W from batch_size, channels, height and width; and N labels.
    """

    param = "memory_data_param"
    example = "memory_data_param { batch_size: 1 channels: 3 height: 224 width: 224 }"

    def item(self) -> Outline:
        """The size, all of which must be given."""
        return tuple(self.require(name) for name in ("channels", "height", "width"))


@layer("HDF5Data")
class HDF5Data(DataLayer):
    """Arrays from HDF5 files: each top is the dataset of its name.

    Tops: N of what the files hold; only they know the other axes. The tops are inputs of the
    net; `torrefy.data.open` reads the files.
    """

    param = "hdf5_data_param"
    tops = (1, None)
    example = 'hdf5_data_param { source: "train.txt" batch_size: 100 }'

    def outline(self) -> list[Outline]:
        """The batch size."""
        return [(self.batch(), "...")] * self.num_tops


@layer("HDF5Output")
class HDF5Output(Layer):
    """Two bottoms for the datasets "data" and "label" of an HDF5 file.

    It has no top, so no output of a net asks for it: a net that is called writes nothing.
    `torrefy test` writes the file, the rows of every batch; a program does by
    `torrefy.data.output`. Caffe writes at each pass, and can do so once.
    """

    param = "hdf5_output_param"
    bottoms = (2, 2)
    tops = (0, 0)
    example = 'hdf5_output_param { file_name: "out.h5" }'

    def setup(self, *bottoms: Shape) -> None:
        """Hold the batch sizes against each other."""
        if bottoms[0][:1] != bottoms[1][:1]:
            raise self.error("the two bottoms differ in their first axis", field="bottom")

    def forward(self, *bottoms: Tensor) -> tuple[Tensor, ...]:
        """Nothing."""
        return ()
