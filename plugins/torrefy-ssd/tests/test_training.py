"""A small detector learns to see, and then sees."""

from __future__ import annotations

from pathlib import Path

import torch
import torrefy

NET = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN }
  data_param { source: "lmdb" batch_size: 8 }
  transform_param { force_gray: true resize_param { height: 32 width: 32 } } }
layer { name: "data" type: "Input" top: "data" include { phase: TEST }
  input_param { shape { dim: 1 dim: 1 dim: 32 dim: 32 } } }
layer { name: "conv1" type: "Convolution" bottom: "data" top: "conv1"
  convolution_param { num_output: 16 kernel_size: 5 stride: 2 pad: 2
    weight_filler { type: "msra" } } }
layer { name: "relu1" type: "ReLU6" bottom: "conv1" top: "conv1" }
layer { name: "conv2" type: "Convolution" bottom: "conv1" top: "conv2"
  convolution_param { num_output: 32 kernel_size: 5 stride: 2 pad: 2
    weight_filler { type: "msra" } } }
layer { name: "relu2" type: "ReLU6" bottom: "conv2" top: "conv2" }
layer { name: "norm" type: "Normalize" bottom: "conv2" top: "norm"
  norm_param { across_spatial: false channel_shared: false
    scale_filler { type: "constant" value: 10 } } }
layer { name: "loc" type: "Convolution" bottom: "norm" top: "loc"
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "loc_perm" type: "Permute" bottom: "loc" top: "loc_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "loc_flat" type: "Flatten" bottom: "loc_perm" top: "loc_flat" }
layer { name: "conf" type: "Convolution" bottom: "norm" top: "conf"
  convolution_param { num_output: 2 kernel_size: 3 pad: 1 weight_filler { type: "xavier" } } }
layer { name: "conf_perm" type: "Permute" bottom: "conf" top: "conf_perm"
  permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "conf_flat" type: "Flatten" bottom: "conf_perm" top: "conf_flat" }
layer { name: "priors" type: "PriorBox" bottom: "norm" bottom: "data" top: "priors"
  prior_box_param { min_size: 10 variance: 0.1 variance: 0.1 variance: 0.2 variance: 0.2 } }
layer { name: "loss" type: "MultiBoxLoss" include { phase: TRAIN }
  bottom: "loc_flat" bottom: "conf_flat" bottom: "priors" bottom: "label" top: "loss"
  multibox_loss_param { num_classes: 2 code_type: CENTER_SIZE } }
layer { name: "conf_axes" type: "Reshape" bottom: "conf_flat" top: "conf_axes"
  include { phase: TEST } reshape_param { shape { dim: 0 dim: -1 dim: 2 } } }
layer { name: "prob" type: "Softmax" bottom: "conf_axes" top: "prob" include { phase: TEST }
  softmax_param { axis: 2 } }
layer { name: "prob_flat" type: "Flatten" bottom: "prob" top: "prob_flat"
  include { phase: TEST } }
layer { name: "found" type: "DetectionOutput" include { phase: TEST } top: "found"
  bottom: "loc_flat" bottom: "prob_flat" bottom: "priors"
  detection_output_param { num_classes: 2 code_type: CENTER_SIZE confidence_threshold: 0.5
    nms_param { nms_threshold: 0.3 top_k: 50 } } }
"""


ITERATIONS = 200


def scenes(count: int, generator: torch.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise with one bright rectangle in each picture, and where it is."""
    pictures = 0.3 * torch.rand(count, 1, 32, 32, generator=generator)
    rows = torch.zeros(1, 1, count, 8)
    for i in range(count):
        width, height, left, top = (
            int(torch.randint(low, high, (), generator=generator))
            for low, high in ((8, 14), (8, 14), (1, 17), (1, 17))
        )
        pictures[i, :, top : top + height, left : left + width] += 0.7
        box = torch.tensor([left, top, left + width, top + height]) / 32
        rows[0, 0, i] = torch.tensor([i, 1, 0, *box, 0])
    return pictures, rows


def test_a_small_detector_learns_and_its_file_finds_what_it_finds(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(NET)
    torch.manual_seed(0)
    net = torrefy.load_net(path, phase="train", shapes={"label": (1, 1, 8, 8)})
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for i in range(ITERATIONS):
        optimizer.param_groups[0]["lr"] = 0.01 * (1 - i / ITERATIONS)
        data, label = scenes(8, generator)
        optimizer.zero_grad()
        loss = net.loss(net(data=data, label=label))
        loss.backward()
        optimizer.step()
    net.save(tmp_path / "net.caffemodel")

    seeing = torrefy.load_net(path, weights=tmp_path / "net.caffemodel")
    data, label = scenes(64, generator)
    with torch.no_grad():
        rows = seeing(data=data)["found"][0, 0]
    first = rows[torch.cat([torch.tensor([True]), rows[1:, 0] != rows[:-1, 0]])]  # the surest
    # One box in each picture, but for some whose score, by rounding, may lie either side of 0.5.
    assert len(first) >= 60
    assert len(rows) <= 68
    off = (first[:, 3:] - label[0, 0, first[:, 0].long(), 3:7]).abs() * 32
    assert off.max() < 2  # pixels

    report = torrefy.export_onnx(seeing, tmp_path / "net.onnx")
    assert report.inputs["data"][0] == "batch"
    assert report.difference < 1e-4
