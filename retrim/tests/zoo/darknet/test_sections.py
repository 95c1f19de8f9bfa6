import pytest

from retrim.errors import ConfigError
from retrim.zoo.darknet import parse_sections, read_sections

TEXT = """# a comment
[network]
width = 64 # of the input
; another

[conv]
filters=8
activation=leaky
[yolo]
anchors = 1,2, 3.5,4,
mask=0,1
"""


def test_names_options_and_places():
    net, conv, yolo = parse_sections(TEXT, "a.cfg")
    assert (net.name, net.number, net.line, net.options) == ("net", -1, 2, {"width": "64"})
    assert (conv.name, conv.number, conv.line) == ("convolutional", 0, 6)
    assert conv.options == {"filters": "8", "activation": "leaky"}
    assert (net.place, yolo.place) == ("[net] (line 2 of 'a.cfg')", "section 1 [yolo] (line 9 of 'a.cfg')")


def test_values():
    net, conv, yolo = parse_sections(TEXT, "a.cfg")
    assert (net.whole("width", 1), net.whole("height", 416), conv.text("activation", "linear")) == (
        64,
        416,
        "leaky",
    )
    assert yolo.numbers("anchors") == (1.0, 2.0, 3.5, 4.0)
    assert (yolo.wholes("mask"), yolo.wholes("others", (7,))) == ((0, 1), (7,))
    assert (yolo.number_of("anchor", 0.5), net.number_of("width", 0.5)) == (0.5, 64.0)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "",
            "cfg 'a.cfg' must begin with [net], followed by layers, but holds nothing: name a detector's cfg",
        ),
        (
            "[yolo]\n[net]",
            "cfg 'a.cfg' must begin with [net], followed by layers, but holds [yolo], [net]: name a detector's cfg",
        ),
        (
            "[net]",
            "cfg 'a.cfg' must begin with [net], followed by layers, but holds [net]: name a detector's cfg",
        ),
        ("[net]\n[yolo]\n[network]", "line 3 of 'a.cfg' must name a layer, but is a second [net]: drop it"),
        ("[net\n", "line 1 of 'a.cfg' must be a name in brackets, but is '[net': close the bracket"),
        ("[]\n", "line 1 of 'a.cfg' must be a name in brackets, but is '[]': close the bracket"),
        (
            "[net]\n\nbatch\n",
            "line 3 of 'a.cfg' must be [section] or key=value, but is 'batch': correct or drop it",
        ),
        (
            "[net]\nbatch=\n",
            "line 2 of 'a.cfg' must be [section] or key=value, but is 'batch=': correct or drop it",
        ),
        ("[net]\n=1\n", "line 2 of 'a.cfg' must be [section] or key=value, but is '=1': correct or drop it"),
        (
            "batch=1\n[net]\n",
            "line 1 of 'a.cfg' must come after a [section], but 'batch=1' has none before it: begin with [net]",
        ),
        (
            "[net]\nbatch=1\nbatch=2\n",
            "line 3 of 'a.cfg' must not give 'batch' again, but [net] has batch=1 already: drop one of them",
        ),
    ],
)
def test_what_is_no_cfg(text, sentence):
    with pytest.raises(ConfigError) as raised:
        parse_sections(text, "a.cfg")
    assert str(raised.value) == sentence


@pytest.mark.parametrize(
    ("value", "read", "rule"),
    [
        ("abc", lambda section: section.whole("a", 1), "whole numbers between commas"),
        ("1.5", lambda section: section.whole("a", 1), "whole numbers between commas"),
        ("1,2", lambda section: section.whole("a", 1), "one whole number >= 1"),
        ("0", lambda section: section.whole("a", 1), "one whole number >= 1"),
        ("-1", lambda section: section.whole("a", 1, 0), "one whole number >= 0"),
        ("x", lambda section: section.number_of("a", 1), "numbers between commas"),
        ("1,,2", lambda section: section.numbers("a"), "numbers between commas"),
        ("1,2", lambda section: section.number_of("a", 1), "one number"),
        ("nan", lambda section: section.numbers("a"), "finite numbers"),
    ],
)
def test_values_of_another_kind(value, read, rule):
    section = parse_sections(f"[net]\n[yolo]\na={value}", "a.cfg")[1]
    with pytest.raises(ConfigError) as raised:
        read(section)
    assert str(raised.value) == (
        f"section 0 [yolo] (line 2 of 'a.cfg') must give a as {rule}, but has a={value}: correct the file"
    )


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "a.cfg"
    with pytest.raises(ConfigError) as raised:
        read_sections(path)
    assert str(raised.value) == (
        f"cfg '{path}' must be a text file, but cannot be read: No such file or directory; fetch it again"
    )
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError) as raised:
        read_sections(path)
    assert (
        str(raised.value)
        == f"cfg '{path}' must be a text file, but cannot be read: it is no text; fetch it again"
    )


def test_real_files(yolo):
    counts = {"yolo-fastest-1.1.cfg": 131, "darknet_cfg/yolov3.cfg": 107, "darknet_cfg/yolov3-tiny.cfg": 24}
    assert {name: len(read_sections(yolo / name)) - 1 for name in counts} == counts
