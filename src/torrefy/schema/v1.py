"""V1 layers, of 2014: `layers { type: CONVOLUTION … }`."""

from __future__ import annotations

from typing import Any

from torrefy.schema.compose import new_message
from torrefy.schema.source import Mark

V1_TYPES = {
    "ABSVAL": "AbsVal", "ACCURACY": "Accuracy", "ARGMAX": "ArgMax", "BNLL": "BNLL",
    "CONCAT": "Concat", "CONTRASTIVE_LOSS": "ContrastiveLoss", "CONVOLUTION": "Convolution",
    "DATA": "Data", "DECONVOLUTION": "Deconvolution", "DROPOUT": "Dropout",
    "DUMMY_DATA": "DummyData", "ELTWISE": "Eltwise", "EUCLIDEAN_LOSS": "EuclideanLoss",
    "EXP": "Exp", "FLATTEN": "Flatten", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output",
    "HINGE_LOSS": "HingeLoss", "IM2COL": "Im2col", "IMAGE_DATA": "ImageData",
    "INFOGAIN_LOSS": "InfogainLoss", "INNER_PRODUCT": "InnerProduct", "LRN": "LRN",
    "MEMORY_DATA": "MemoryData", "MULTINOMIAL_LOGISTIC_LOSS": "MultinomialLogisticLoss",
    "MVN": "MVN", "NONE": "", "POOLING": "Pooling", "POWER": "Power", "RELU": "ReLU",
    "SIGMOID": "Sigmoid", "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss",
    "SILENCE": "Silence", "SLICE": "Slice", "SOFTMAX": "Softmax",
    "SOFTMAX_LOSS": "SoftmaxWithLoss", "SPLIT": "Split", "TANH": "TanH",
    "THRESHOLD": "Threshold", "WINDOW_DATA": "WindowData",
}  # fmt: skip
_TRANSFORMED = {"DATA": "data_param", "IMAGE_DATA": "image_data_param",
                "WINDOW_DATA": "window_data_param"}  # fmt: skip
_TRANSFORMS = ("scale", "mean_file", "crop_size", "mirror")
_SPECS = {
    "param": "name", "blob_share_mode": "share_mode", "blobs_lr": "lr_mult",
    "weight_decay": "decay_mult",
}  # fmt: skip
"""What stood in a list beside the layer's blobs, and its field in each `param` today."""
_NOT_COPIED = {"layer", "type", *_SPECS}


def v1_type(number: int) -> str:
    """The type of a V1 layer by the number that files hold: 4 is "Convolution"."""
    kinds = new_message("caffe.V1LayerParameter").DESCRIPTOR.enum_types_by_name["LayerType"]
    value = kinds.values_by_number.get(number)
    return V1_TYPES[value.name] if value else ""


def upgrade_v1_layer(old: Any, new: Any) -> None:
    """Write a V1 layer into an empty LayerParameter."""
    kind = old.DESCRIPTOR.enum_types_by_name["LayerType"].values_by_number[old.type].name
    for field, value in old.ListFields():
        if field.name in _NOT_COPIED:
            continue
        if field.message_type is not None and not field.is_repeated:
            getattr(new, field.name).CopyFrom(value)
        elif field.message_type is not None:
            for item in value:
                getattr(new, field.name).add().CopyFrom(item)
        elif field.is_repeated:
            getattr(new, field.name).extend(value)
        else:
            setattr(new, field.name, value)
    if old.HasField("type"):
        new.type = V1_TYPES[kind]
    copy_specs(old, new)
    if kind in _TRANSFORMED and new.HasField(_TRANSFORMED[kind]):
        data = getattr(new, _TRANSFORMED[kind])
        for name in _TRANSFORMS:
            if data.HasField(name):
                setattr(new.transform_param, name, getattr(data, name))
                data.ClearField(name)


def copy_specs(old: Any, new: Any) -> None:
    """Write what an old layer says of its blobs, in lists beside them, into `param`."""
    for name, field in _SPECS.items():
        for i, value in enumerate(getattr(old, name, ())):
            while len(new.param) <= i:
                new.param.add()
            setattr(new.param[i], field, value)


def v1_mark(layer: Mark) -> Mark:
    """The places of a V1 layer's parts under the names that they have today."""
    mark = Mark(layer.offset)
    mark.fields = {k: v for k, v in layer.fields.items() if k not in _SPECS}
    mark.fields.update(spec_marks(layer))
    transforms = mark.fields.get("transform_param", [])
    for message in _TRANSFORMED.values():
        for data in layer.fields.get(message, []):
            transform = Mark(transforms[0].offset if transforms else data.offset)
            moved = {k: v for k, v in data.fields.items() if k in _TRANSFORMS}
            transform.fields = {**(transforms[0].fields if transforms else {}), **moved}
            mark.fields["transform_param"] = [transform]
    return mark


def spec_marks(layer: Mark) -> dict[str, list[Mark]]:
    """The places of what `copy_specs` copies, as the field `param` has it (nothing if empty)."""
    params: list[Mark] = []
    for name, field in _SPECS.items():
        for i, place in enumerate(layer.fields.get(name, [])):
            if len(params) <= i:
                params.append(Mark(place.offset))
            params[i].fields[field] = [place]
    return {"param": params} if params else {}
