"""Each layer against darknet's rule, place by place."""

import math

import numpy as np
import pytest
import torch

from retrim.errors import ConfigError

CASES = {
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "linear": lambda x: x,
    "mish": lambda x: x * math.tanh(math.log1p(math.exp(x))),
    "swish": lambda x: x / (1 + math.exp(-x)),
    "logistic": lambda x: 1 / (1 + math.exp(-x)),
}


@pytest.fixture
def image():
    torch.manual_seed(1)
    return torch.randn(2, 6, 7, 5)


@torch.no_grad()
def seen(layer, *inputs):
    return layer(*inputs).numpy()


@pytest.mark.parametrize("name", CASES)
def test_activations(between, image, name):
    layer = between(f"[convolutional]\nfilters=3\nsize=1\nactivation={name}\n").layers[1]
    with torch.no_grad():
        hidden = 5 * layer.conv(image)
        layer.conv.weight *= 5
    expected = np.vectorize(CASES[name])(hidden.numpy())
    np.testing.assert_allclose(seen(layer, image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "size", "stride", "padding", "groups"),
    [
        ("size=3\npad=1\n", 3, 1, 1, 1),
        ("size=3\nstride=2\npad=1\ngroups=3\n", 3, 2, 1, 3),
        ("size=5\npad=1\ngroups=6\nbatch_normalize=1\n", 5, 1, 2, 6),
        ("size=3\npadding=2\n", 3, 1, 2, 1),
        ("size=3\npad=1\npadding=2\n", 3, 1, 1, 1),
        ("size=2\nstride=2\nbatch_normalize=1\n", 2, 2, 0, 1),
        ("", 1, 1, 0, 1),
    ],
)
def test_convolutions(between, image, options, size, stride, padding, groups):
    layer = between(f"[convolutional]\nfilters=6\nactivation=linear\n{options}").layers[1]
    x = np.pad(image.double().numpy(), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    weight, part = layer.conv.weight.detach().double().numpy(), 6 // groups
    rows, columns = ((side + 2 * padding - size) // stride + 1 for side in (7, 5))
    expected = np.empty((2, 6, rows, columns))
    for out in range(6):
        first = out // part * part
        for r in range(rows):
            for c in range(columns):
                window = x[
                    :, first : first + part, r * stride : r * stride + size, c * stride : c * stride + size
                ]
                expected[:, out, r, c] = (window * weight[out]).sum((1, 2, 3))
    if layer.norm is not None:
        mean, variance, scale, bias = (
            values.detach().double().numpy()[:, None, None]
            for values in (
                layer.norm.running_mean,
                layer.norm.running_var,
                layer.norm.weight,
                layer.norm.bias,
            )
        )
        expected = (expected - mean) / np.sqrt(variance + 1e-5) * scale + bias
    np.testing.assert_allclose(seen(layer, image), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "size", "stride", "padding"),
    [
        ("size=2\nstride=2\n", 2, 2, 1),
        ("size=2\nstride=1\n", 2, 1, 1),
        ("size=3\nstride=2\n", 3, 2, 2),
        ("size=5\nstride=1\n", 5, 1, 4),
        ("size=4\nstride=1\n", 4, 1, 3),
        ("size=2\nstride=2\npadding=0\n", 2, 2, 0),
        ("stride=2\n", 2, 2, 1),
    ],
)
@pytest.mark.parametrize("sides", [(7, 5), (6, 8)])
def test_maxpools(between, options, size, stride, padding, sides):
    torch.manual_seed(0)
    x = torch.randn(1, 2, *sides) - 5  # a zero of padding would be the greatest
    rows, columns = ((side + padding - size) // stride + 1 for side in sides)
    expected = np.full((1, 2, rows, columns), -np.inf)
    for r in range(rows):
        for c in range(columns):
            for i in range(size):
                for j in range(size):
                    row, column = r * stride + i - padding // 2, c * stride + j - padding // 2
                    if 0 <= row < sides[0] and 0 <= column < sides[1]:
                        expected[..., r, c] = np.maximum(expected[..., r, c], x[..., row, column].numpy())
    np.testing.assert_array_equal(seen(between(f"[maxpool]\n{options}").layers[1], x), expected)


def test_a_window_of_two_keeps_the_size_at_stride_one(between):
    x = torch.arange(6.0).view(1, 1, 2, 3)
    layer = between("[maxpool]\nsize=2\nstride=1\n").layers[1]
    np.testing.assert_array_equal(seen(layer, x)[0, 0], [[4, 5, 5], [4, 5, 5]])


def test_upsample(between, image):
    layer = between("[upsample]\nstride=3\n").layers[1]
    np.testing.assert_array_equal(seen(layer, image), image.numpy().repeat(3, 2).repeat(3, 3))


def test_dropout_and_average(between, image):
    made = between("[dropout]\nprobability=.25\n[avgpool]\n")
    np.testing.assert_array_equal(seen(made.layers[1], image), image.numpy())
    assert made.layers[1].p == 0.25
    expected = image.numpy().mean((2, 3), keepdims=True)
    np.testing.assert_allclose(seen(made.layers[2], image), expected, rtol=1e-5, atol=1e-6)


def test_routes(between, image):
    conv = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"
    made = between(
        f"{conv}[route]\nlayers=-1,0\n[route]\nlayers = 0\ngroups=3\ngroup_id=1\n[route]\nlayers=-3, -4\ngroups=2\n"
    )
    assert [made._sources[index] for index in (2, 3, 4)] == [(1, 0), (0,), (1, 0)]
    other = image[:, :4] + 1
    np.testing.assert_array_equal(seen(made.layers[2], other, image), np.concatenate((other, image), 1))
    np.testing.assert_array_equal(seen(made.layers[3], image), image[:, 2:4])
    np.testing.assert_array_equal(
        seen(made.layers[4], other, image), np.concatenate((other[:, :2], image[:, :3]), 1)
    )


def test_shortcuts_add_what_both_have(between, image):
    conv = "[convolutional]\nfilters={}\nsize=1\nactivation=linear\n"
    made = between(
        f"{conv.format(4)}[shortcut]\nfrom=-2\n{conv.format(9)}[shortcut]\nfrom=-3,0\nactivation=relu\n"
    )
    assert (made._sources[2], made._sources[4]) == ((1, 0), (3, 1, 0))
    fewer, more = image[:, :4] - 1, torch.cat((image, -image), 1)[:, :9]
    np.testing.assert_allclose(seen(made.layers[2], fewer, image), fewer + image[:, :4])
    expected = more.numpy().copy()
    expected[:, :4] += fewer.numpy()
    expected[:, :6] += image.numpy()
    np.testing.assert_allclose(seen(made.layers[4], more, fewer, image), np.maximum(expected, 0), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (
            "[softmax]\ngroups=1\n",
            "section 1 [softmax] (line 9 of 'a.cfg') must be one of convolutional, maxpool, upsample, route, shortcut, "
            "dropout, avgpool, yolo, but is [softmax]: choose a network without it",
        ),
        (
            "[convolutional]\nactivation=elu\n",
            "section 1 [convolutional] (line 9 of 'a.cfg') must have an activation of leaky, relu, relu6, linear, mish, "
            "swish, logistic, but has activation=elu: choose a network without it",
        ),
        (
            "[convolutional]\nantialiasing=1\n",
            "section 1 [convolutional] (line 9 of 'a.cfg') must leave antialiasing at 0, but has antialiasing=1: choose "
            "a network without it",
        ),
        (
            "[convolutional]\nstride_x=2\nstride_y=1\n",
            "section 1 [convolutional] (line 9 of 'a.cfg') must leave stride_x at 1, but has stride_x=2: choose a network "
            "without it",
        ),
        (
            "[convolutional]\nfilters=6\ngroups=4\n",
            "section 1 [convolutional] (line 9 of 'a.cfg') must divide 6 channels and 6 filters, but has groups=4: "
            "correct groups or filters",
        ),
        (
            "[convolutional]\nsize=40\n",
            "section 1 [convolutional] (line 9 of 'a.cfg') must leave something of a map of 32 x 32, but has size=40: "
            "enlarge width and height",
        ),
        (
            "[maxpool]\nsize=2\npadding=2\n",
            "section 1 [maxpool] (line 9 of 'a.cfg') must have a padding below its size, but has padding=2, size=2: "
            "correct one",
        ),
        (
            "[route]\nlayers=-2\n",
            "section 1 [route] (line 9 of 'a.cfg') must name one or more of the 1 layers before it, but has layers=-2: "
            "correct layers",
        ),
        (
            "[route]\n",
            "section 1 [route] (line 9 of 'a.cfg') must name one or more of the 1 layers before it, but has layers=: "
            "correct layers",
        ),
        (
            "[route]\nlayers=0\ngroups=4\n",
            "section 1 [route] (line 9 of 'a.cfg') must take one of equal groups of 6 channels, but has groups=4, "
            "group_id=0: correct them",
        ),
        (
            "[shortcut]\nfrom=1\n",
            "section 1 [shortcut] (line 9 of 'a.cfg') must name one or more of the 1 layers before it, but has from=1: "
            "correct from",
        ),
        (
            "[maxpool]\nstride=2\n[shortcut]\nfrom=-2\n",
            "section 2 [shortcut] (line 11 of 'a.cfg') must join maps of one size, but has maps of 16 x 16, 32 x 32: "
            "correct the layers that it names, or [net]'s width and height",
        ),
        (
            "[dropout]\nprobability=1\n",
            "section 1 [dropout] (line 9 of 'a.cfg') must have a probability from 0 to below 1, but has 1.0: correct it",
        ),
        (
            "[yolo]\nnum=2\nanchors=1,2,3\n",
            "section 1 [yolo] (line 9 of 'a.cfg') must give num=2 anchors as pairs of numbers > 0, but has 3 numbers: "
            "correct anchors or num",
        ),
        (
            "[yolo]\nanchors=1,2\nmask=1\n",
            "section 1 [yolo] (line 9 of 'a.cfg') must give mask as different numbers from 0 to 0, but has mask=1: "
            "correct it",
        ),
        (
            "[yolo]\nanchors=1,2\nclasses=2\n",
            "section 1 [yolo] (line 9 of 'a.cfg') must see 1 anchors x (5 + 2 classes) = 7 channels, but has 6: correct "
            "filters of the layer before, mask or classes",
        ),
        (
            "[yolo]\nanchors=1,2\nclasses=1\nignore_thresh=2\n",
            "section 1 [yolo] (line 9 of 'a.cfg') must give ignore_thresh as a number from 0.0 to 1.0, but has "
            "ignore_thresh=2.0: correct it",
        ),
        (
            "[yolo]\nanchors=1,2\nclasses=1\n[dropout]\n",
            "section 2 [dropout] (line 12 of 'a.cfg') must not take a [yolo], but has section 1 as input: put a [route] "
            "to another layer between",
        ),
        (
            "[avgpool]\n[yolo]\nanchors=1,2\nclasses=1\n",
            "section 2 [yolo] (line 10 of 'a.cfg') must see a map that divides the input of 32 x 32 pixels, but has one "
            "of 1 x 1: choose width and height in [net] that are multiples of its stride",
        ),
    ],
)
def test_what_does_not_fit(between, text, sentence):
    with pytest.raises(ConfigError) as raised:
        between(text)
    assert str(raised.value) == sentence


def test_unknown_options_are_warned_of_once(between):
    with pytest.warns(UserWarning, match="is unknown and passed over") as warned:
        between("[dropout]\nprobabilty=.1\n[dropout]\nprobabilty=.2\n[upsample]\ncolour=red\n")
    assert [str(entry.message) for entry in warned] == [
        "option 'probabilty' of section 1 [dropout] (line 9 of 'a.cfg') is unknown and passed over",
        "option 'colour' of section 3 [upsample] (line 13 of 'a.cfg') is unknown and passed over",
    ]
