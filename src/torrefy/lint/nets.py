"""Traps in nets: fillers, BatchNorm, losses, upsampling, names."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torrefy.graph import Node
from torrefy.lint.rule import Finding, NetSubject, on_layer, rule

FILLED = {
    "Convolution": "convolution_param",
    "Deconvolution": "convolution_param",
    "Embed": "embed_param",
    "InnerProduct": "inner_product_param",
    "LSTM": "recurrent_param",
    "RNN": "recurrent_param",
}
"""Layers whose weights a filler makes, and where it stands."""


def _frozen(layer: Any, blob: int = 0) -> bool:
    """Whether a param is not learned."""
    return len(layer.param) > blob and layer.param[blob].lr_mult == 0


@rule("T101", "zero-weights")
def zero_weights(net: NetSubject) -> Iterator[Finding]:
    """Weights without a weight_filler start as zeros, and a layer of zeros does not learn.

    The filler's default is the constant 0. All units of the layer then compute the same and get
    the same gradient, or none at all. Layers whose weights come from a file, are shared with a
    layer that fills them, or have lr_mult 0 are fine. (Source: Caffe's FillerParameter.)
    """
    filled = {
        param.name
        for _, layer in net.of_type(*FILLED)
        if getattr(layer, FILLED[layer.type]).HasField("weight_filler")
        for param in layer.param[:1]
        if param.name
    }
    for index, layer in net.of_type(*FILLED) if net.trains else ():
        field = FILLED[layer.type]
        shared = bool(layer.param) and layer.param[0].name in filled
        if getattr(layer, field).HasField("weight_filler") or shared or _frozen(layer):
            continue
        yield on_layer(
            index, layer, "there is no weight_filler, so the weights start as zeros",
            'Give weight_filler { type: "xavier" } or "msra", unless they come from a file.', field,
        )  # fmt: skip


@rule("T102", "norm-without-scale")
def norm_without_scale(net: NetSubject) -> Iterator[Finding]:
    """A BatchNorm that no Scale follows can only give mean 0 and variance 1.

    Caffe's BatchNorm has no factor and no offset of its own; the paper's (Ioffe and Szegedy
    2015) has. (Source: BVLC/caffe#3347 and others.)
    """
    for node in net.graph.nodes:
        if node.type == "BatchNorm" and node.tops:
            readers = net.readers.get(node.tops[0], [])
            if readers and not any(reader.type == "Scale" for reader in readers):
                yield on_layer(
                    node.index, node.spec, "no Scale layer follows, so there is no factor and "
                    "no offset to learn",
                    "Add a Scale layer with scale_param { bias_term: true } behind it.", "type",
                )  # fmt: skip


@rule("T103", "scale-without-bias")
def scale_without_bias(net: NetSubject) -> Iterator[Finding]:
    """A Scale behind a BatchNorm learns a factor but no offset unless bias_term is set.

    bias_term is false unless it is given. (Source: Caffe's ScaleParameter.)
    """
    for node in net.graph.nodes:
        before = net.producer(node) if node.type == "Scale" and len(node.bottoms) == 1 else None
        if before and before.type == "BatchNorm" and not node.spec.scale_param.bias_term:
            yield on_layer(
                node.index, node.spec, "bias_term is not set, so no offset is learned",
                "Give scale_param { bias_term: true }.", "scale_param",
            )  # fmt: skip


@rule("T104", "bias-before-norm")
def bias_before_norm(net: NetSubject) -> Iterator[Finding]:
    """A bias in front of a BatchNorm is taken away again by its mean.

    It costs memory and time and learns nothing. bias_term is true unless it is given.
    """
    for node in net.graph.nodes:
        before = net.producer(node) if node.type == "BatchNorm" else None
        if not before or before.type not in ("Convolution", "InnerProduct", "Deconvolution"):
            continue
        field = FILLED[before.type]
        only = len(net.readers[before.tops[0]]) == 1
        if net.trains and only and getattr(before.spec, field).bias_term:
            yield on_layer(
                before.index, before.spec,
                f'its bias is taken away again by the BatchNorm "{node.name}"',
                "Give bias_term: false.", field,
            )  # fmt: skip


@rule("T105", "fixed-statistics")
def fixed_statistics(net: NetSubject) -> Iterator[Finding]:
    """use_global_stats that is set for both phases is wrong in one of them.

    Unset, it follows the phase: the batch's statistics in TRAIN, the kept ones in TEST. Set to
    true without a rule, training normalises by statistics that nothing learns (right only for
    finetuning with them frozen); set to false, a test's answer depends on the rest of its batch.
    (Source: BVLC/caffe#3347, #5829.)
    """
    for index, layer in net.of_type("BatchNorm"):
        param = layer.batch_norm_param
        if not param.HasField("use_global_stats"):
            continue
        phases = _phases(layer)
        if param.use_global_stats and "train" in phases and net.trains:
            message = "use_global_stats is true in phase train: the statistics are not learned"
        elif not param.use_global_stats and "test" in phases:
            message = "use_global_stats is false in phase test: answers depend on the batch"
        else:
            continue
        fix = "Leave it out: it then follows the phase."
        yield on_layer(index, layer, message, fix, "batch_norm_param", "use_global_stats")


def _phases(layer: Any) -> set[str]:
    """The phases that a layer can be part of."""
    names = ("train", "test")
    if layer.include:
        rules = layer.include
        if any(not r.HasField("phase") for r in rules):
            return set(names)
        return {names[r.phase] for r in rules}
    alone = [r for r in layer.exclude if len(r.ListFields()) == 1 and r.HasField("phase")]
    return set(names) - {names[r.phase] for r in alone}


@rule("T106", "duplicate-name")
def duplicate_name(net: NetSubject) -> Iterator[Finding]:
    """Two layers of one name in one state: weights reach only the first.

    Caffe copies weights to the first layer of a name, and look-ups by name find the last.
    (Source: Caffe's Net::CopyTrainedLayersFrom and Net::Init.)
    """
    seen: dict[str, Node] = {}
    for node in net.graph.nodes:
        first = seen.setdefault(node.name, node)
        if first is not node and node.name:
            line = net.definition.place("layer", first.index).line
            yield on_layer(
                node.index, node.spec, f"another layer has this name (line {line}); weights reach "
                "only the first",
                "Choose another name.", "name",
            )  # fmt: skip


@rule("T107", "double-softmax")
def double_softmax(net: NetSubject) -> Iterator[Finding]:
    """A Softmax in front of SoftmaxWithLoss or InfogainLoss is a softmax of a softmax.

    Both losses contain the softmax (InfogainLoss since 2017; before that it took
    probabilities). Training then crawls, since its gradient is nearly flat.
    """
    for node in net.graph.nodes:
        before = net.producer(node) if node.type in ("SoftmaxWithLoss", "InfogainLoss") else None
        if before and before.type == "Softmax":
            yield on_layer(
                node.index, node.spec,
                f'{node.type} contains a softmax, and its bottom comes from the Softmax '
                f'"{before.name}"',
                f'Give it that layer\'s bottom, "{before.spec.bottom[0]}".',
                "bottom", 0,
            )  # fmt: skip


@rule("T108", "logits-as-probabilities")
def logits_as_probabilities(net: NetSubject) -> Iterator[Finding]:
    """MultinomialLogisticLoss takes probabilities and does not make them itself.

    Numbers below 1e-20 count as 1e-20, so that scores below 0 give a constant loss without a
    useful gradient.
    """
    for node in net.graph.nodes:
        before = net.producer(node) if node.type == "MultinomialLogisticLoss" else None
        if before and before.type in {*FILLED, "ReLU", "Pooling", "Eltwise"}:
            yield on_layer(
                node.index, node.spec,
                'it takes probabilities, but its bottom comes from the '
                f'{before.type} "{before.name}"',
                "Put a Softmax between, or use SoftmaxWithLoss.", "bottom", 0,
            )  # fmt: skip


@rule("T109", "ignored-targets")
def ignored_targets(net: NetSubject) -> Iterator[Finding]:
    """SigmoidCrossEntropyLoss with ignore_label 0 drops every target below 1.

    Targets are compared with ignore_label after they are cut to an integer, so that all of
    (-1, 1) counts as 0. (Source: Caffe's sigmoid_cross_entropy_loss_layer.cpp.)
    """
    for index, layer in net.of_type("SigmoidCrossEntropyLoss"):
        if layer.loss_param.HasField("ignore_label") and layer.loss_param.ignore_label == 0:
            yield on_layer(
                index, layer, "ignore_label 0 drops all targets in (-1, 1), zeros too",
                "Mark what is to be ignored by another number, such as 255.",
                "loss_param", "ignore_label",
            )  # fmt: skip


def _bilinear(net: NetSubject) -> Iterator[tuple[int, Any]]:
    for index, layer in net.of_type("Deconvolution"):
        if layer.convolution_param.weight_filler.type == "bilinear":
            yield index, layer


@rule("T110", "bilinear-sums-channels")
def bilinear_sums_channels(net: NetSubject) -> Iterator[Finding]:
    """A bilinear Deconvolution without group sums all channels into each.

    The filler puts the same kernel into every pair of channels. Upsampling channel by channel
    needs group equal to num_output. (Source: Caffe's BilinearFiller, whose comment says so.)
    """
    for index, layer in _bilinear(net):
        param = layer.convolution_param
        if param.num_output > 1 and param.group != param.num_output:
            yield on_layer(
                index, layer,
                f"group is {param.group}, so the bilinear kernels sum all channels into each",
                f"Give group: {param.num_output}.", "convolution_param",
            )  # fmt: skip


@rule("T111", "bilinear-learns")
def bilinear_learns(net: NetSubject) -> Iterator[Finding]:
    """A bilinear Deconvolution is learned unless its lr_mult is 0.

    Fixed upsampling, as in FCN, needs param { lr_mult: 0 decay_mult: 0 }; otherwise weight decay
    alone shrinks it.
    """
    for index, layer in _bilinear(net) if net.trains else ():
        if not _frozen(layer):
            yield on_layer(
                index, layer, "the bilinear kernel is learned",
                "Give param { lr_mult: 0 decay_mult: 0 } if it is to stay.", "convolution_param",
            )  # fmt: skip


@rule("T112", "empty-window")
def empty_window(net: NetSubject) -> Iterator[Finding]:
    """Pooling whose stride is larger than its kernel can have a window outside the picture.

    Sizes are rounded up, and without pad nothing drops a window that starts beyond the edge:
    MAX then gives -FLT_MAX and AVE 0 / 0 or -0. (Source: Caffe's pooling_layer.cpp.)
    """
    for node in net.graph.nodes:
        if node.type != "Pooling" or not node.bottoms:
            continue
        p = node.spec.pooling_param
        shape = net.shapes.get(node.bottoms[0], ())
        if p.RoundMode.Name(p.round_mode) == "FLOOR" or p.global_pooling or len(shape) != 4:
            continue
        kernel = (p.kernel_h or p.kernel_size, p.kernel_w or p.kernel_size)
        stride = (p.stride_h or p.stride, p.stride_w or p.stride)
        padded = p.pad or p.pad_h or p.pad_w
        for size, k, s in zip(shape[2:], kernel, stride, strict=True):
            last = -(-(size - k) // s) * s if s else 0
            if not padded and last >= size:
                yield on_layer(
                    node.index, node.spec,
                    f"the last window starts at {last}, outside the bottom's {size}",
                    "Give round_mode: FLOOR, or a stride that is not above the kernel.",
                    "pooling_param",
                )  # fmt: skip
                break


@rule("T113", "crop-from-the-corner")
def crop_from_the_corner(net: NetSubject) -> Iterator[Finding]:
    """A Crop without an offset cuts from the corner, also where upsampling was padded.

    The default offset is 0, not the middle. In nets that pad the picture widely first (FCN's
    pad: 100) the part that matches lies further in. (Source: Caffe's crop_layer.cpp.)
    """
    padded = any(
        max(layer.convolution_param.pad, default=0) > max(layer.convolution_param.kernel_size)
        for _, layer in net.of_type("Convolution")
        if layer.convolution_param.kernel_size
    )
    for index, layer in net.of_type("Crop") if padded else ():
        if not layer.crop_param.offset:
            yield on_layer(
                index, layer, "it cuts from the corner, though the picture is padded widely",
                "Give crop_param { offset: … }.", "crop_param",
            )  # fmt: skip


@rule("T114", "never-included")
def never_included(net: NetSubject) -> Iterator[Finding]:
    """A rule that no state can satisfy.

    min_level above max_level, or one stage both asked for and excluded.
    """
    for index, layer in net.layers:
        for kind in ("include", "exclude"):
            for i, state in enumerate(getattr(layer, kind)):
                levels = state.HasField("min_level") and state.HasField("max_level")
                both = set(state.stage) & set(state.not_stage)
                if (levels and state.min_level > state.max_level) or both:
                    why = (
                        f'the stage "{min(both)}" is both asked for and excluded'
                        if both
                        else f"min_level {state.min_level} is above max_level {state.max_level}"
                    )
                    yield on_layer(
                        index, layer, f"this rule can't hold: {why}", "Correct or drop it.", kind, i
                    )


@rule("T115", "decayed-factors", default=False)
def decayed_factors(net: NetSubject) -> Iterator[Finding]:
    """Weight decay pulls the factors of Scale and PReLU, and all biases, towards 0.

    Caffe decays every param alike unless decay_mult is 0. Many recipes leave factors and biases
    out. Off unless selected, since so do most published nets.
    """
    for index, layer in net.of_type("Scale", "PReLU") if net.trains else ():
        if not layer.param or layer.param[0].decay_mult:
            yield on_layer(
                index, layer, "its factor is decayed like a weight",
                "Give param { decay_mult: 0 }.", "param",
            )  # fmt: skip
