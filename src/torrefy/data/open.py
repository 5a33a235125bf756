"""Data layers opened: the source, the transformer and the loader that a definition asks for."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import ArrayLike

from torrefy.data.augment.batch import BatchAugmenter
from torrefy.data.augment.read import UNREAD, asks, read_augmenter, read_batch_augmentations
from torrefy.data.loader import Loader, Transform
from torrefy.data.normalise.normaliser import Normalised, Normaliser
from torrefy.data.pictures import STORED
from torrefy.data.sources.hdf5 import HDF5Source, read_files
from torrefy.data.sources.image_list import list_source
from torrefy.data.sources.leveldb import LevelDBSource
from torrefy.data.sources.lmdb import LMDBSource
from torrefy.data.sources.memory import ArraySource
from torrefy.data.sources.source import Source
from torrefy.data.sources.table import SUFFIXES as TABLES
from torrefy.data.sources.table import table_source
from torrefy.data.sources.window import WindowSource, WindowTransformer, read_windows
from torrefy.data.transform import Transformer, read_mean
from torrefy.errors import DataError, Place, TorrefyError, did_you_mean
from torrefy.graph.state import state_of
from torrefy.plugins import named
from torrefy.schema import Definition

if TYPE_CHECKING:
    from torrefy.data.augment.versions import Versions

TYPES = ("Data", "HDF5Data", "ImageData", "MemoryData", "WindowData")
"""Caffe's layer types that read data; `source_types` has those of plugins, too."""

Arrays = Sequence[ArrayLike] | None
"""What a program hands over for a layer that names no file."""


@dataclass(frozen=True)
class SourceType:
    """How a layer type reads its data; plugins add more by the hook `torrefy_sources`."""

    name: str
    """The layer type."""
    param: str
    """The layer's message that has its batch_size: "data_param"."""
    open: Callable[[Any, Path, Arrays], Source]
    """Opens what a LayerParameter names, relative to a folder."""
    transform: Callable[[Any, str, Path], Transform | None] = lambda spec, phase, folder: None
    """What is done to each item in a phase: "train" or "test"; None: nothing."""


def source_types() -> Mapping[str, SourceType]:
    """Every layer type whose data can be read."""
    return named("torrefy_sources", "name", "source of data")


def open_source(
    spec: Any, phase: str, folder: Path | str = ".", *, arrays: Arrays = None
) -> Source:
    """The source that a data layer names.

    Args:
        spec: the LayerParameter, upgraded to Caffe 1.0's form.
        phase: "train" or "test".
        folder: what the files in it are relative to; Caffe's is the working folder.
        arrays: what a MemoryData layer holds, the pictures as N×C×H×W and the labels.

    Raises:
        DataError: the source can't be read; the layer reads no data, or lacks its source.
    """
    del phase  # no kind of source depends on it; all that it changes is the transformer
    try:
        return _type_of(spec).open(spec, Path(folder), arrays)
    except TorrefyError as error:
        raise error.within(layer=spec.name) from None


def open_transform(spec: Any, phase: str, folder: Path | str = ".") -> Transform | None:
    """What a data layer does to each item; None: nothing.

    Arguments and errors as `open_source`. A WindowData layer takes its scale from
    window_data_param, not from transform_param, as in Caffe.
    """
    try:
        kind = _type_of(spec)
        if spec.type in UNREAD and asks(spec):
            read_augmenter(spec)  # refuses: this type would pass over it
        transform = kind.transform(spec, phase, Path(folder))
        normaliser = Normaliser.from_layer(spec, folder)
        return transform if normaliser is None else Normalised(transform, normaliser)
    except TorrefyError as error:
        raise error.within(layer=spec.name) from None


def open_mix(spec: Any, phase: str) -> BatchAugmenter | None:
    """What a data layer does to each batch: in phase train, Mixup and its kin; None: nothing.

    Raises:
        DataError: an augmentation is wrong, or the layer has not the tops that it needs.
    """
    if phase != "train" or not asks(spec):
        return None
    try:
        made = read_batch_augmentations(spec)
        return BatchAugmenter(made, list(spec.top)) if made else None
    except TorrefyError as error:
        raise error.within(layer=spec.name) from None


def find_layer(
    definition: Definition, phase: str, name: str = "", *, normalised: bool = False
) -> Any:
    """The data layer of a net, as its LayerParameter.

    Args:
        definition: the net's, upgraded.
        phase: "train" or "test": where the layer is.
        name: which it is, where there are several.
        normalised: look at those alone that have statistics.

    Raises:
        DataError: there is none of that name, none at all, or several and no name.
    """
    state, place = state_of(definition.message, phase), Place(definition.source.file)
    layers = [
        layer
        for layer in definition.message.layer
        if layer.type in source_types()
        and state.keeps(layer)
        and (layer.transform_param.statistics or not normalised)
    ]
    names = [layer.name for layer in layers]
    what = "data layer with statistics" if normalised else "data layer"
    if name and name not in names:
        hint = did_you_mean(name, names) or f"There are {', '.join(names) or 'none'}."
        told = f'there is no {what} "{name}" in phase {phase}'
        raise DataError(told, place=place, hint=hint)
    found = [layer for layer in layers if layer.name == name] if name else layers
    if len(found) != 1:
        told = f"there are {len(found)} {what}s" if found else f"there is no {what}"
        hint = f"Say which: {', '.join(names)}." if found else ""
        raise DataError(f"{told} in phase {phase}", place=place, hint=hint)
    return found[0]


def batch_size_of(spec: Any) -> int:
    """The batch size that a data layer gives.

    Raises:
        DataError: none, or 0.
    """
    size = int(getattr(spec, _type_of(spec).param).batch_size)
    if not size:
        raise DataError("there is no batch_size", layer=spec.name)
    return size


def _type_of(spec: Any) -> SourceType:
    types = source_types()
    if spec.type not in types:
        raise DataError(
            f"a layer of the type {spec.type} reads no data",
            layer=spec.name,
            hint=did_you_mean(spec.type, types),
        )
    return types[spec.type]


def open_path(path: Path | str, *, root: str = "", colour: str = STORED) -> Source:
    """The source that a path is, as a user names it: what it is is seen from what is there.

    Args:
        path: an LMDB, a LevelDB, a folder with a sub-folder for each class, a list or a table.
        root: what is put before the names in a list.
        colour: "BGR", "GRAY", or STORED; of a list or folder STORED is BGR.

    Raises:
        DataError: there is nothing that is read.
    """
    path = Path(path)
    if (path / "CURRENT").exists():
        return LevelDBSource(path, colour)
    if (path / "data.mdb").exists() or path.suffix == ".mdb":
        return LMDBSource(path, colour)
    colour = "BGR" if colour == STORED else colour
    if path.suffix in TABLES:
        return table_source(path, None, root, colour=colour)
    return list_source(path, root, colour=colour)


def open_loader(
    spec: Any,
    phase: str,
    folder: Path | str = ".",
    *,
    source: Source | None = None,
    arrays: Arrays = None,
    versions: Versions | None = None,
    **options: Any,
) -> Loader:
    """The loader of a data layer's batches: one tensor for each of its tops.

    Args:
        spec: the LayerParameter, upgraded to Caffe 1.0's form.
        phase: "train" or "test".
        folder: what the files in it are relative to.
        source: items from elsewhere than the layer says; they are transformed as it says.
        arrays: what a MemoryData layer holds.
        versions: those that are made of each picture, where the layer transforms pictures: the
            first top is then N×V×C×H×W, and the loader's `versions` say so.
        options: as `Loader` takes them: seed, workers, rank, world, bad, labels, …

    Raises:
        DataError: as `open_source` and `Loader`.
    """
    if source is None:
        source = open_source(spec, phase, folder, arrays=arrays)
    transform = open_transform(spec, phase, folder)
    if versions is not None and isinstance(transform, Transformer):
        if versions.crops and not transform.crop:
            raise DataError(
                f"{versions.name} takes crops, but there is no crop_size", layer=spec.name
            )
        transform.versions = versions
    loader = Loader(
        source,
        batch_size=batch_size_of(spec),
        tops=list(spec.top),
        transform=transform,
        mix=open_mix(spec, phase),
        name=spec.name,
        **options,
    )
    loader.versions = getattr(transform, "versions", None)
    return loader


def _open_data(spec: Any, folder: Path, arrays: Arrays) -> Source:
    del arrays
    data, transform = spec.data_param, spec.transform_param
    colour = STORED
    if transform.force_color and transform.force_gray:
        raise DataError("force_color and force_gray are both given", hint="Give one of them.")
    if transform.force_color or data.force_encoded_color:
        colour = "BGR"
    elif transform.force_gray:
        colour = "GRAY"
    kind = LMDBSource if data.backend == data.LMDB else LevelDBSource
    source: Source = kind(folder / _source(data), colour)
    source.rand_skip = data.rand_skip
    return source


def _open_pictures(spec: Any, folder: Path, arrays: Arrays) -> Source:
    del arrays
    data = spec.image_data_param
    size = (data.new_height, data.new_width)
    if any(size) and not all(size):
        raise DataError("one of new_height and new_width is missing", hint="Give both or neither.")
    path, root = folder / _source(data), _root(folder, data.root_folder)
    options: dict[str, Any] = {
        "size": size if all(size) else None,
        "colour": "BGR" if data.is_color else "GRAY",
        "shuffle": data.shuffle,
        "rand_skip": data.rand_skip,
        "resampling": data.Resampling.Name(data.resampling),
        "keep_aspect": data.keep_aspect,
    }
    if path.suffix in TABLES:
        return table_source(path, list(spec.top[1:]), root, **options)
    return list_source(path, root, **options)


def _open_hdf5(spec: Any, folder: Path, arrays: Arrays) -> Source:
    del arrays
    data = spec.hdf5_data_param
    if spec.HasField("transform_param"):
        raise DataError("HDF5Data takes no transform_param", hint="Store the arrays transformed.")
    return HDF5Source(
        read_files(folder / _source(data), folder), list(spec.top), shuffle=data.shuffle
    )


def _open_windows(spec: Any, folder: Path, arrays: Arrays) -> Source:
    del arrays
    data = spec.window_data_param
    foreground, background = read_windows(
        folder / _source(data),
        root=_root(folder, data.root_folder),
        fg_threshold=data.fg_threshold,
        bg_threshold=data.bg_threshold,
    )
    return WindowSource(foreground, background, data.fg_fraction, folder / data.source)


def _warp_windows(spec: Any, phase: str, folder: Path) -> Transform:
    del phase  # they are mirrored in both
    data, given = spec.window_data_param, spec.transform_param
    if data.crop_mode not in ("warp", "square"):
        raise DataError(
            f'crop_mode is "warp" or "square", found "{data.crop_mode}"',
            hint=did_you_mean(data.crop_mode, ("warp", "square")),
        )
    mean: Any = list(given.mean_value)
    if given.HasField("mean_file"):
        mean = read_mean(folder / given.mean_file)
    return WindowTransformer(
        crop=given.crop_size,
        context_pad=data.context_pad,
        square=data.crop_mode == "square",
        scale=data.scale,
        mean=mean,
        mirror=given.mirror,
    )


def _open_memory(spec: Any, folder: Path, arrays: Arrays) -> Source:
    del folder
    if arrays is None:
        raise DataError("a MemoryData layer has no source: the program gives its arrays")
    given = spec.memory_data_param
    source = ArraySource(*arrays)
    wanted = (given.channels, given.height, given.width)
    found = source.arrays[0].shape[1:]
    if found != wanted:
        raise DataError(
            f"items of {'x'.join(map(str, found))} for a layer of {'x'.join(map(str, wanted))}"
        )
    return source


def _source(data: Any) -> str:
    if not data.source:
        raise DataError("there is no source")
    name: str = data.source
    return name


def _root(folder: Path, root: str) -> str:
    """What is put before the names of pictures: `root` with what it is relative to."""
    if Path(root).is_absolute() or folder == Path():
        return root
    return f"{folder}/{root}"


BUILT_IN = (
    SourceType("Data", "data_param", _open_data, Transformer.from_layer),
    SourceType("HDF5Data", "hdf5_data_param", _open_hdf5),
    SourceType("ImageData", "image_data_param", _open_pictures, Transformer.from_layer),
    SourceType("MemoryData", "memory_data_param", _open_memory),
    SourceType("WindowData", "window_data_param", _open_windows, _warp_windows),
)
"""What the hook gives for Caffe's own types."""
