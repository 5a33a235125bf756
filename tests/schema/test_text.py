"""Reading prototxt: what is taken, what is refused, and in which words."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from google.protobuf import descriptor_pb2
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import LENET, THIRDS

from torrefy.errors import DefinitionError, TorrefyError
from torrefy.schema import parse_text, read_text, write_text


def problems(text: str) -> list[str]:
    with pytest.raises(DefinitionError) as error:
        parse_text(text, file="net.prototxt")
    return [str(p) for p in error.value.problems]


def test_all_that_the_text_format_allows_is_read() -> None:
    text = (
        "\ufeffname: 'a' \"b\"  # a comment\r\n"
        "layer: < name: \"x\\x41\\n\" ; type: 'ReLU', bottom: ['p', 'q'] "
        "relu_param { negative_slope: -1.5e-2f } loss_weight: [1, .5, inf] >\r\n"
        "input_dim: [1, 0x10, 010]\nforce_backward: t"
    )
    message = parse_text(text.encode()).message
    layer = message.layer[0]
    assert message.name == "ab"
    assert layer.name == "xA\n"
    assert list(layer.bottom) == ["p", "q"]
    assert layer.relu_param.negative_slope == pytest.approx(-0.015)
    assert list(layer.loss_weight) == [1, 0.5, float("inf")]
    assert list(message.input_dim) == [1, 16, 8]
    assert message.force_backward is True


def test_every_part_knows_its_place() -> None:
    definition = parse_text('name: "n"\nlayer {\n  name: "a"\n  bottom: ["x", "y"]\n}', file="n")
    assert str(definition.place("layer", 0)) == "n:2:1"
    assert str(definition.place("layer", 0, "bottom", 1)) == "n:4:17"
    assert str(definition.place("layer", 0, "convolution_param.pad")) == "n:2:1"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            'layer { name: "c" convolution_parm { pad: 1 } }',
            'net.prototxt:1:19: layer "c": LayerParameter has no field "convolution_parm". '
            'Did you mean "convolution_param"?',
        ),
        (
            "layer { pooling_param { pool: AVG } }",
            'net.prototxt:1:31: "pool" takes one of MAX, AVE, STOCHASTIC; found AVG. '
            'Did you mean "AVE"?',
        ),
        (
            'layer { pooling_param { pool: "MAX" } }',
            'net.prototxt:1:31: "pool" takes one of MAX, AVE, STOCHASTIC; found "MAX". '
            "Write MAX without quotes.",
        ),
        (
            "layer { convolution_param { num_output: 9.5 } }",
            'net.prototxt:1:41: "num_output" takes an integer of 0 or more, found 9.5',
        ),
        (
            "layer { name: conv }",
            'net.prototxt:1:15: "name" takes a text in quotes, found conv. Write "conv".',
        ),
        (
            'name: "a"\nname: "b"',
            'net.prototxt:2:1: "name" is given twice; the first is in line 1',
        ),
        ("force_backward: 2", 'net.prototxt:1:17: "force_backward" takes true or false, found 2'),
        ("layer {", 'net.prototxt:1:8: expected a field\'s name or "}", found the end of the file'),
        (
            "<<<<<<< HEAD",
            'net.prototxt:1:1: expected a field\'s name, found "<". '
            "This is a merge conflict left in the file.",
        ),
        (
            'layer { type: "Clip" clip_param { max: 1 } }',
            'net.prototxt:1:22: the required field "min" of ClipParameter is missing',
        ),
        (
            'layer { name: "a }',
            'net.prototxt:1:15: expected a text in quotes for "name", '
            "found a text that is not closed on its line",
        ),
    ],
)
def test_a_mistake_is_told_with_place_and_hint(text: str, expected: str) -> None:
    assert problems(text) == [expected]


def test_independent_mistakes_are_told_at_once() -> None:
    text = 'layer { nmae: "a" }\nlayer { relu_param { slope: { x: [1] } } }\nlayer { phase: TRIAN }'
    assert len(problems(text)) == 3


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "the file is empty"),
        (b" \n", "the file is empty"),
        (b"\xff\xd8\xff\xe0JFIF", "this is a JPEG picture, not a prototxt"),
        (b"\x0a\x05LeNet\xa2\x06\x00\x00", "this is a binary caffemodel, not a prototxt"),
        (bytes(5000), "this is a file of zero bytes, not a prototxt"),
        (b'name: "\xe9"', ":1:8: byte 0xe9 is not UTF-8 text. Save the file as UTF-8."),
    ],
)
def test_what_is_no_prototxt_is_called_by_its_name(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(content)
    with pytest.raises(DefinitionError) as error:
        read_text(path)
    text = str(error.value)
    assert text == f"{path}{expected if expected.startswith(':') else ': ' + expected}"


def test_gigabytes_of_zeros_are_refused_without_reading_them(tmp_path: Path) -> None:
    path = tmp_path / "zeros"
    with path.open("wb") as file:
        file.truncate(2 << 30)
    with pytest.raises(DefinitionError, match="a file of zero bytes"):
        read_text(path)


def test_a_missing_file_and_a_directory_get_a_hint(lenet: Path) -> None:
    with pytest.raises(DefinitionError, match=r'no such file. Did you mean "lenet.prototxt"\?'):
        read_text(lenet.with_name("lenett.prototxt"))
    with pytest.raises(DefinitionError, match=r"no such file$"):  # one suffix is no likeness
        read_text(lenet.with_name("alex.prototxt"))
    with pytest.raises(DefinitionError, match=r"a directory, not a prototxt. It holds lenet"):
        read_text(lenet.parent)


def test_text_written_is_text_read(lenet: Path) -> None:
    message = read_text(lenet).message
    assert parse_text(write_text(message)).message == message


@given(st.text(max_size=200))
def test_random_text_gives_nothing_but_a_torrefy_error(text: str) -> None:
    try:
        parse_text(text)
    except TorrefyError:
        pass


@settings(max_examples=200)
@given(st.data())
def test_mutated_prototxt_gives_nothing_but_a_torrefy_error(data: st.DataObject) -> None:
    text = list(LENET)
    for _ in range(data.draw(st.integers(1, 6))):
        at = data.draw(st.integers(0, len(text) - 1))
        text[at : at + data.draw(st.integers(0, 9))] = data.draw(
            st.text(alphabet="{}<>[]:;,\"'\\#-.x01 \n", max_size=4)
        )
    try:
        parse_text("".join(text))
    except TorrefyError:
        pass


@given(st.binary(max_size=300))
def test_random_bytes_give_nothing_but_a_torrefy_error(content: bytes) -> None:
    try:
        parse_text(content)
    except TorrefyError:
        pass


@pytest.mark.parametrize("third", THIRDS)
@pytest.mark.usefixtures("bare")
def test_public_definitions_are_read_exactly_where_caffe_reads_them(
    shared: Path, third: int
) -> None:
    corpus = shared / "corpus"
    wrong = []
    with (corpus / "index.tsv").open() as table:
        for row in list(csv.DictReader(table, delimiter="\t"))[third::3]:
            path = corpus / row["file"]
            if path.stat().st_size > 500_000:
                continue
            kind = "SolverParameter" if row["kind"] == "solver" else "NetParameter"
            try:
                read_text(path, f"caffe.{kind}")
                outcome = "ok"
            except TorrefyError:
                outcome = "fail"
            if outcome != row["parse_bvlc"]:
                wrong.append(row["file"])
    assert not wrong


def test_the_compiled_schema_is_in_step_with_the_texts(tmp_path: Path) -> None:
    protoc = pytest.importorskip("grpc_tools.protoc")
    root = Path(__file__).parents[2]
    out = tmp_path / "schema.binpb"
    names = ["caffe.proto", "torrefy.proto"]
    assert protoc.main(["", f"-I{root / 'protos'}", f"--descriptor_set_out={out}", *names]) == 0
    shipped = root / "src/torrefy/schema/schema.binpb"
    read = descriptor_pb2.FileDescriptorSet.FromString
    assert read(out.read_bytes()) == read(shipped.read_bytes()), "run `make protos`"
