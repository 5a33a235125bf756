"""The plugin as a whole: what it adds, and at what price."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from torrefy.graph import State
from torrefy.layers.registry import layer_types
from torrefy.net.compile import diagnose
from torrefy.schema import parse_text, read_text, upgrade

import torrefy_ssd


def test_reading_a_definition_imports_no_torch() -> None:
    code = (
        "import sys; from torrefy.schema import parse_text;"
        "parse_text('layer { type: \"PriorBox\" prior_box_param { min_size: 1 } }');"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


@pytest.mark.parametrize("name", torrefy_ssd.LAYERS)
def test_each_type_is_where_the_plugin_says_and_tells_an_example(name: str) -> None:
    cls = layer_types().choose(name, "ssd")
    assert cls.type_name == name
    assert cls.__module__ == f"torrefy_ssd.{torrefy_ssd.LAYERS[name]}"
    assert cls.example
    assert (cls.__doc__ or "").strip()
    parse_text(f'layer {{ name: "x" type: "{name}" {cls.example} }}')


def test_a_solver_of_ssd_reads() -> None:
    text = 'eval_type: "detection" ap_version: "11point" plateau_winsize: 10000 plateau_winsize: 5'
    message = parse_text(text, message="caffe.SolverParameter").message
    assert list(message.plateau_winsize) == [10000, 5]


MULTI_STEP = """
layer { name: "data" type: "AnnotatedData" top: "data" top: "label"
  transform_param {
    scale: 0.007843 mirror: true mean_value: 127.5 mean_value: 127.5 mean_value: 127.5
    resize_param { prob: 1 resize_mode: WARP height: 300 width: 300
      interp_mode: LINEAR interp_mode: AREA interp_mode: NEAREST interp_mode: CUBIC
      interp_mode: LANCZOS4 }
    emit_constraint { emit_type: CENTER }
    distort_param { brightness_prob: 0.5 brightness_delta: 32 contrast_prob: 0.5
      contrast_lower: 0.5 contrast_upper: 1.5 hue_prob: 0.5 hue_delta: 18 saturation_prob: 0.5
      saturation_lower: 0.5 saturation_upper: 1.5 random_order_prob: 0 }
    expand_param { prob: 0.5 max_expand_ratio: 4 }
    noise_param { prob: 0.1 saltpepper_param { fraction: 0.1 value: 0 } }
  }
  data_param { source: "trainval_lmdb" batch_size: 24 backend: LMDB }
  annotated_data_param {
    batch_sampler { max_sample: 1 max_trials: 1 }
    batch_sampler {
      sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
      sample_constraint { min_jaccard_overlap: 0.1 } max_sample: 1 max_trials: 50 }
    label_map_file: "labelmap.prototxt" }
}
"""


def test_the_transformations_of_ssd_read() -> None:
    graph, built = diagnose(parse_text(MULTI_STEP), State("train"))
    assert built.problems == []
    assert built.shapes[graph.inputs["data"]] == (24, 3, 300, 300)


@pytest.mark.parametrize(
    ("name", "found"),
    [("deploy.prototxt", "detection_out"), ("voc__MobileNetSSD_test.prototxt", "detection_eval")],
)
def test_mobilenet_ssd_compiles(shared: Path, name: str, found: str) -> None:
    path = shared / "corpus" / "prototxt" / "chuanqi305+MobileNet-SSD" / name
    shapes = {} if name == "deploy.prototxt" else {"label": (1, 1, 3, 8)}
    graph, built = diagnose(upgrade(read_text(path)), State("test"), shapes=shapes)
    assert built.problems == []
    assert built.missing == []
    assert list(graph.outputs) == [found]
    # 19 x 19 x 3 and 6 of 10 x 10, 5 x 5, 3 x 3, 2 x 2 and 1 x 1: 1917 priors.
    assert built.shapes["mbox_priorbox"] == (1, 2, 4 * 1917)
