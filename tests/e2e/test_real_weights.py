"""Real caffemodels of other people: loaded, run, exported."""

from __future__ import annotations

from pathlib import Path

import pytest

import torrefy
from torrefy.errors import TorrefyError
from torrefy.export.onnx import export_onnx
from torrefy.schema import parse_text

NETS = (
    ("mtcnn/det1", "mtcnn/det1"),
    ("mtcnn/det2", "mtcnn/det2"),
    ("mtcnn/det3", "mtcnn/det3"),
    ("mtcnn/det4", "mtcnn/det4"),
    ("wechat_qrcode/sr", "wechat_qrcode/sr"),
)


def layer(name: str, kind: str, bottom: str, top: str, params: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{bottom}" top: "{top}" {params} }}\n'


CONV = "convolution_param {{ num_output: {} kernel_size: 5 }}"
POOL = "pooling_param { pool: MAX kernel_size: 2 stride: 2 }"
NORMFACE_FEATURES = (
    'input: "data" input_shape { dim: 1 dim: 1 dim: 28 dim: 28 }\n'
    + layer("conv1", "Convolution", "data", "c1", CONV.format(20))
    + layer("pool1", "Pooling", "c1", "p1", POOL)
    + layer("relu_pool1", "PReLU", "p1", "p1")
    + layer("conv2", "Convolution", "p1", "c2", CONV.format(50))
    + layer("pool2", "Pooling", "c2", "p2", POOL)
    + layer("relu_pool2", "PReLU", "p2", "p2")
    + layer("ip1", "InnerProduct", "p2", "ip1", "inner_product_param { num_output: 500 }")
    + layer("relu1", "PReLU", "ip1", "ip1")
    + layer("ip1_dr", "InnerProduct", "ip1", "feature", "inner_product_param { num_output: 2 }")
)  # fmt: skip
"""What that LeNet computes at inference; its own definition is for training, in a dialect."""


@pytest.mark.parametrize(("definition", "weights"), NETS, ids=lambda n: n)
def test_a_real_net_exports_with_parity(
    definition: str, weights: str, shared: Path, tmp_path: Path
) -> None:
    folder = shared / "corpus/weights"
    net = torrefy.load_net(folder / f"{definition}.prototxt", folder / f"{weights}.caffemodel")
    assert export_onnx(net, tmp_path / "m.onnx").difference <= 1e-4


def test_a_training_snapshot_fits_a_deploy_definition_by_name(shared: Path, tmp_path: Path) -> None:
    net = torrefy.load_net(
        parse_text(NORMFACE_FEATURES),
        shared / "corpus/weights/normface_lenet/lenet_iter_20000.caffemodel",
    )
    assert export_onnx(net, tmp_path / "m.onnx").difference <= 1e-4


@pytest.mark.usefixtures("bare")
def test_a_dialect_is_told_by_its_layers(shared: Path) -> None:
    """Nets of other Caffes say which types and fields are theirs, and where."""
    folder = shared / "corpus/weights"
    for file, sign in (
        ("wechat_qrcode/detect",
         'layer "cls1/permute": LayerParameter has no field "permute_param". '
         'Does its type, "Permute", need a plugin?'),
        ("ultra_light_face/RFB-320", 'LayerParameter has no field "permute_param"'),
        ("mobilenet_yolov3_lite_tusimple/mobilenet_yolov3_lite_deploy",
         'there is no layer type "DepthwiseConvolution"'),
    ):  # fmt: skip
        with pytest.raises(TorrefyError) as error:
            torrefy.load_net(folder / f"{file}.prototxt")
        assert sign in str(error.value)
