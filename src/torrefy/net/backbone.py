"""Where a pretrained net is cut: the blob that its last learned layer reads."""

from __future__ import annotations

from torrefy.errors import TorrefyError
from torrefy.net.net import Net

LEARNED = ("Convolution", "InnerProduct")


def default_blob(net: Net, output: str = "") -> str:
    """The blob to take features of, where none is named: what the last learned layer reads.

    Of a classifier that is the layer that makes one number of each class. The blob is named as it
    stands behind layers in place (ReLU); a Dropout before that layer is nothing in phase test.

    Args:
        net: the net.
        output: the blob that holds the answer; empty: its first output.

    Raises:
        TorrefyError: no layer of these types leads to the output, or it reads the net's input.
    """
    wanted = output or next(iter(net.graph.outputs), "")
    net.check_blob(wanted)
    needed = {wanted}
    for node in reversed(net.graph.nodes):
        if not needed.intersection(node.tops):
            continue
        if node.type in LEARNED and net.layers[node.key].declared:
            if node.bottoms[0] in net.graph.inputs.values():
                raise TorrefyError(
                    f'the last learned layer, "{node.name}", reads the net\'s input: there is no '
                    "blob of features",
                    hint="Name one by --blob.",
                )
            return node.bottoms[0]
        needed.update(node.bottoms)
    raise TorrefyError(
        f'no Convolution or InnerProduct leads to "{wanted}"', hint="Name a blob by --blob."
    )
