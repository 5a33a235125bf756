"""V0 layers, of Caffe's first days: `layers { layer { type: "conv" … } bottom … top … }`."""

from __future__ import annotations

from typing import Any

from torrefy.errors import DefinitionError, Problem, did_you_mean
from torrefy.schema.compose import new_message
from torrefy.schema.source import Definition, Mark
from torrefy.schema.v1 import copy_specs, spec_marks

V0_TYPES = {
    "accuracy": "Accuracy", "bnll": "BNLL", "concat": "Concat", "conv": "Convolution",
    "data": "Data", "dropout": "Dropout", "euclidean_loss": "EuclideanLoss",
    "flatten": "Flatten", "hdf5_data": "HDF5Data", "hdf5_output": "HDF5Output",
    "im2col": "Im2col", "images": "ImageData", "infogain_loss": "InfogainLoss",
    "innerproduct": "InnerProduct", "lrn": "LRN",
    "multinomial_logistic_loss": "MultinomialLogisticLoss", "pool": "Pooling", "relu": "ReLU",
    "sigmoid": "Sigmoid", "softmax": "Softmax", "softmax_loss": "SoftmaxWithLoss",
    "split": "Split", "tanh": "TanH", "window_data": "WindowData",
}  # fmt: skip
PADDING = "padding"
"""A V0 layer that is no layer any more: its pad moves into the convolution or pooling behind it."""

_PARAMS = {
    "concat": "concat_param", "conv": "convolution_param", "data": "data_param",
    "dropout": "dropout_param", "hdf5_data": "hdf5_data_param", "images": "image_data_param",
    "infogain_loss": "infogain_loss_param", "innerproduct": "inner_product_param",
    "lrn": "lrn_param", "pool": "pooling_param", "window_data": "window_data_param",
}  # fmt: skip
_LEARNED = ("conv", "innerproduct")
_SOURCES = ("data", "hdf5_data", "images", "infogain_loss", "window_data")
_FIELDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "num_output": ("num_output", _LEARNED),
    "biasterm": ("bias_term", _LEARNED),
    "weight_filler": ("weight_filler", _LEARNED),
    "bias_filler": ("bias_filler", _LEARNED),
    "pad": ("pad", ("conv", "pool")),
    "kernelsize": ("kernel_size", ("conv", "pool")),
    "stride": ("stride", ("conv", "pool")),
    "group": ("group", ("conv",)),
    "pool": ("pool", ("pool",)),
    "dropout_ratio": ("dropout_ratio", ("dropout",)),
    "local_size": ("local_size", ("lrn",)),
    "alpha": ("alpha", ("lrn",)),
    "beta": ("beta", ("lrn",)),
    "k": ("k", ("lrn",)),
    "source": ("source", _SOURCES),
    "batchsize": ("batch_size", ("data", "hdf5_data", "images", "window_data")),
    "rand_skip": ("rand_skip", ("data", "images")),
    "shuffle_images": ("shuffle", ("images",)),
    "new_height": ("new_height", ("images",)),
    "new_width": ("new_width", ("images",)),
    "concat_dim": ("concat_dim", ("concat",)),
    "det_fg_threshold": ("fg_threshold", ("window_data",)),
    "det_bg_threshold": ("bg_threshold", ("window_data",)),
    "det_fg_fraction": ("fg_fraction", ("window_data",)),
    "det_context_pad": ("context_pad", ("window_data",)),
    "det_crop_mode": ("crop_mode", ("window_data",)),
}
"""A V0 field: its name in the type's own message today, and the types that have it."""
_TRANSFORMS = {
    "scale": "scale", "meanfile": "mean_file", "cropsize": "crop_size", "mirror": "mirror",
}  # fmt: skip
"""Fields that went to transform_param, whatever the type."""


def is_v0(message: Any) -> bool:
    """Whether a net has V0 layers."""
    return any(layer.HasField("layer") for layer in message.layers)


def upgrade_v0(definition: Definition) -> tuple[list[tuple[int, Any]], list[str]]:
    """A V0 net's layers in today's form, each with its index among `layers`, and notes.

    As in Caffe, a field that does not fit its layer's type is left out and noted.

    Raises:
        DefinitionError: an unknown type, or padding in front of what can't pad.
    """
    notes: list[str] = []
    problems: list[Problem] = []
    kept: list[tuple[int, Any]] = []
    made: dict[str, Any] = {}
    """Blob to the padding layer that made its present value, or None."""
    for index, connection in enumerate(definition.message.layers):
        old = connection.layer
        place = definition.place("layers", index)
        if not connection.HasField("layer"):
            text = "a V1 layer among V0 layers; a net is of one age"
            problems.append(Problem(text, place, connection.name))
            continue
        if old.type == PADDING:
            made.update((top, connection) for top in connection.top)
            continue
        if old.type not in V0_TYPES:
            hint = did_you_mean(old.type, [*V0_TYPES, PADDING])
            where = definition.place("layers", index, "layer", "type")
            text = f'there is no V0 layer type "{old.type}"'
            problems.append(Problem(text, where, old.name, hint))
            continue
        new = _upgrade_layer(old, f"{place}: ", notes)
        for bottom in connection.bottom:
            padding = made.get(bottom)
            new.bottom.append(padding.bottom[0] if padding and padding.bottom else bottom)
            if padding and not _pad(new, padding.layer.pad):
                text = f"a padding layer in front of a {old.type} layer; only conv and pool can pad"
                problems.append(Problem(text, place, old.name))
        new.top.extend(connection.top)
        made.update(dict.fromkeys(connection.top))
        kept.append((index, new))
    if problems:
        raise DefinitionError(problems)
    return kept, notes


def v0_mark(connection: Mark) -> Mark:
    """The places of a V0 layer's parts under the names that they have today."""
    layers = connection.fields.get("layer", [])
    inner = layers[0].fields if layers else {}
    mark = Mark(connection.offset)
    mark.fields = {k: v for k, v in inner.items() if k in ("name", "type", "blobs")}
    mark.fields.update((k, v) for k, v in connection.fields.items() if k != "layer")
    mark.fields.update(spec_marks(layers[0]) if layers else {})
    for message in _PARAMS.values():
        param = Mark(connection.offset)
        param.fields = {_FIELDS[k][0]: v for k, v in inner.items() if k in _FIELDS}
        mark.fields[message] = [param]
    transform = Mark(connection.offset)
    transform.fields = {_TRANSFORMS[k]: v for k, v in inner.items() if k in _TRANSFORMS}
    mark.fields["transform_param"] = [transform]
    return mark


def _pad(layer: Any, pad: int) -> bool:
    """Move a padding layer's pad into the layer behind it; whether that can pad."""
    if layer.type == "Convolution":
        del layer.convolution_param.pad[:]
        layer.convolution_param.pad.append(pad)
    elif layer.type == "Pooling":
        layer.pooling_param.pad = pad
    else:
        return False
    return True


def _upgrade_layer(old: Any, place: str, notes: list[str]) -> Any:
    new = new_message("caffe.LayerParameter")
    if old.HasField("name"):
        new.name = old.name
    new.type = V0_TYPES[old.type]
    copy_specs(old, new)
    for blob in old.blobs:
        new.blobs.add().CopyFrom(blob)
    for field, value in old.ListFields():
        if field.name in ("name", "type", "blobs", "blobs_lr", "weight_decay"):
            continue
        name, types = _FIELDS.get(field.name, ("", ()))
        if field.name in _TRANSFORMS:
            setattr(new.transform_param, _TRANSFORMS[field.name], value)
        elif field.name == "hdf5_output_param" and old.type == "hdf5_output":
            new.hdf5_output_param.CopyFrom(value)
        elif old.type in types:
            _set(getattr(new, _PARAMS[old.type]), name, value)
        else:
            notes.append(
                f'{place}layer "{old.name}": {field.name} is not for a layer of type '
                f'"{old.type}"; it is left out, as in Caffe'
            )
    return new


def _set(message: Any, name: str, value: Any) -> None:
    field = message.DESCRIPTOR.fields_by_name[name]
    if field.message_type is not None:
        getattr(message, name).CopyFrom(value)
    elif field.is_repeated:
        getattr(message, name).append(value)
    else:
        setattr(message, name, value)
