"""Average pooling as Caffe and ONNX have it, which OpenVINO's CPU gets wrong at the far edge."""

from __future__ import annotations

from typing import Any

from torrefy.errors import TorrefyError


def mend_average_pooling(model: Any) -> None:
    """Rewrite a model's average pooling, where a window may hang over the padded picture.

    What hangs over does not count in the divisor, what is padding does. OpenVINO 2026.4 gives the
    right shape, and then divides some of the last windows by their whole size (a width of 28,
    kernel_size 3, stride 2, pad 1). In place of that, zeros are put around the picture, and
    what hangs over is padding that an average excludes.

    Args:
        model: an `openvino.Model`.

    Raises:
        TorrefyError: the size of the picture isn't known.
    """
    from openvino import opset14

    for op in model.get_ordered_ops():
        told = op.get_attributes() if op.get_type_name() == "AvgPool" else {}
        if not told or told["exclude-pad"] or told["rounding_type"] == "floor":
            continue
        kernel, strides = told["kernel"], told["strides"]
        begin, end = told["pads_begin"], told["pads_end"]
        given, made = (list(port.get_partial_shape())[2:] for port in (op.input(0), op.output(0)))
        if not any((*begin, *end)):
            continue
        if any(extent.is_dynamic for extent in (*given, *made)):
            raise TorrefyError(
                "OpenVINO computes padded average pooling of pictures of any size wrong",
                hint="Take runtime onnxruntime, or a net of a fixed size.",
            )
        over = [
            max(0, (out.get_length() - 1) * stride + size - (extent.get_length() + first + last))
            for out, stride, size, extent, first, last in zip(
                made, strides, kernel, given, begin, end, strict=True
            )
        ]
        source = op.input_value(0)
        padded = opset14.pad(
            source, opset14.constant([0, 0, *begin]), opset14.constant([0, 0, *end]), "constant"
        )
        nothing = [0] * len(begin)
        mended = opset14.avg_pool(
            padded, strides, nothing, over, kernel, exclude_pad=True, rounding_type="floor"
        )
        op.output(0).replace(mended.output(0))
