import pytest
import torch

from retrim.errors import ConfigError
from retrim.zoo.darknet import DarknetNetwork, DetectionLoss, Head, count_values, load_weights, parse_sections


def meta(path):
    with torch.device("meta"):
        return DarknetNetwork.read(path)


def test_heads_and_names(small):
    assert small.heads == (
        Head(anchors=((20, 16), (30, 40)), classes=3, stride=8, ignore_thresh=0.5, scale_x_y=1.1),
        Head(anchors=((5, 6), (9, 12)), classes=3, stride=4, ignore_thresh=0.4, iou_thresh=0.3),
    )
    assert (small.size, small.channels, small.stride) == ((64, 64), 3, 8)
    assert [name for name, _ in small.named_parameters()] == [
        "layers.0.conv.weight",
        "layers.0.norm.weight",
        "layers.0.norm.bias",
        "layers.2.conv.weight",
        "layers.2.norm.weight",
        "layers.2.norm.bias",
        "layers.3.conv.weight",
        "layers.3.conv.bias",
        "layers.8.conv.weight",
        "layers.8.conv.bias",
    ]


def test_forward_layer_by_layer(small):
    images = torch.rand(2, 3, 64, 96)
    layers = small.layers
    with torch.no_grad():
        first = layers[1](layers[0](images))
        second = layers[2](first)
        joined = torch.cat((second.repeat_interleave(2, 2).repeat_interleave(2, 3), first), 1)
        expected = layers[3](second).view(2, 2, 8, 8, 12), layers[8](joined).view(2, 2, 8, 16, 24)
        torch.testing.assert_close(small(images), expected)


def test_outputs_are_dropped_after_their_last_use(small):
    # 3 and 5 to 8 feed the next layer alone; 1 waits for the route, 2 for the second head's branch.
    assert small._done_with == [[-1], [0], [], [], [3, 4], [2], [5], [1, 6], [7], [8, 9]]


def test_untrained_heads_expect_little(small):
    for index in (3, 8):
        bias = small.layers[index].conv.bias.view(2, 8)
        assert torch.sigmoid(bias[:, 4]).tolist() == pytest.approx([0.01, 0.01])
        assert torch.sigmoid(bias[:, 5:]).flatten().tolist() == pytest.approx([1 / 3] * 6)
        assert not bias[:, :4].any()


@pytest.mark.parametrize(
    ("shape", "sentence"),
    [
        (
            (1, 3, 60, 64),
            "images must have a height and width that are multiples of 8, not 60 x 64: letterbox them",
        ),
        (
            (1, 3, 64, 0),
            "images must have a height and width that are multiples of 8, not 64 x 0: letterbox them",
        ),
        ((1, 1, 64, 64), "images must have the shape (n, 3, height, width), not (1, 1, 64, 64)"),
        ((3, 64, 64), "images must have the shape (n, 3, height, width), not (3, 64, 64)"),
    ],
)
def test_images_are_checked(small, shape, sentence):
    with pytest.raises(ConfigError) as raised:
        small(torch.zeros(shape))
    assert str(raised.value) == sentence


def test_a_detector_has_a_head():
    with pytest.raises(ConfigError) as raised:
        DarknetNetwork(parse_sections("[net]\n[maxpool]\n", "a.cfg"))
    assert str(raised.value) == (
        "[net] (line 1 of 'a.cfg') must be followed by a [yolo], but has none: name a detector's cfg"
    )


def test_bfloat16_with_a_loss_in_float32(small):
    truths = [torch.tensor([[1.0, 20, 30, 10, 12]]), torch.zeros(0, 5)]
    with torch.autocast("cpu", torch.bfloat16):
        maps = small.train()(torch.rand(2, 3, 64, 64))
        loss = DetectionLoss()(maps, truths, small.heads)
    assert [seen.dtype for seen in maps] == [torch.bfloat16, torch.bfloat16]
    assert loss.dtype == torch.float32
    loss.backward()
    assert all(parameter.grad.isfinite().all() for parameter in small.parameters())


@pytest.mark.parametrize(
    ("name", "values", "parameters"),
    [
        ("yolov3", 62_001_757, 61_949_149),
        ("yolov3-tiny", 8_858_734, 8_852_366),
        ("yolov3-spp", 63_052_381, 62_998_749),
    ],
)
def test_published_sizes(yolo, name, values, parameters):
    made = meta(yolo / "darknet_cfg" / f"{name}.cfg")
    assert count_values(made) == values
    assert sum(parameter.numel() for parameter in made.parameters()) == parameters
    assert (made.stride, made.heads[0].stride) == (32, 32)


def test_yolov3s_heads(yolo):
    heads = meta(yolo / "darknet_cfg" / "yolov3.cfg").heads
    assert [(head.stride, head.channels, head.ignore_thresh) for head in heads] == [
        (32, 255, 0.7),
        (16, 255, 0.7),
        (8, 255, 0.7),
    ]
    assert heads[2].anchors == ((10, 13), (16, 30), (33, 23))


def test_yolo_fastest_sees(yolo):
    made = load_weights(
        DarknetNetwork.read(yolo / "yolo-fastest-1.1.cfg"), yolo / "yolo-fastest-1.1.weights"
    ).eval()
    with torch.inference_mode():
        maps = made(torch.full((1, 3, 64, 96), 0.5))
    assert [tuple(seen.shape) for seen in maps] == [(1, 3, 85, 2, 3), (1, 3, 85, 4, 6)]
    assert all((seen[:, :, 4] < 0).all() for seen in maps)  # grey holds nothing
