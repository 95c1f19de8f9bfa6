import os
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from retrim.errors import ArtifactError, ConfigError
from retrim.zoo import resnet
from retrim.zoo.resnet import Basic, CifarBlock, CifarResNet, Trunk, load_public

PUBLIC = {"resnet20": "resnet20-12fca82f.th", "resnet32": "resnet32-d509ac18.th"}


@pytest.fixture
def public() -> Path:
    root = os.environ.get("RETRIM_DATA") or Path(__file__).parents[4] / "shared" / "data"
    folder = Path(root) / "cifar10_resnet_weights"
    if not folder.is_dir():
        pytest.skip(
            f"trained residual networks are not in {folder}; set RETRIM_DATA to the folder of the data"
        )
    return folder


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("resnet18", 11_689_512),
        ("resnet50", 25_557_032),
        ("resnet20", 269_722),
        ("resnet32", 464_154),
        ("resnet56", 853_018),
    ],
)
def test_parameters_are_as_many_as_published(name, count):
    with torch.device("meta"):
        model = getattr(resnet, name)()
    assert sum(weight.numel() for weight in model.parameters()) == count


def test_names_are_torchvisions():
    with torch.device("meta"):
        names = resnet.resnet50().state_dict()
    assert list(names)[:2] == ["conv1.weight", "bn1.weight"]
    assert "layer1.0.downsample.0.weight" in names
    assert "layer4.2.bn3.running_var" in names
    assert "layer1.1.downsample.0.weight" not in names
    assert names["layer2.0.conv2.weight"].shape == (128, 128, 3, 3)
    assert names["fc.weight"].shape == (1000, 2048)


def test_a_block_is_two_convolutions_and_a_shortcut():
    torch.manual_seed(0)
    block = Basic(4, 6, stride=2).eval()
    x = torch.randn(2, 4, 5, 7)
    scale = 1 / (1 + 1e-5) ** 0.5  # batch norm as it starts
    y = functional.relu(functional.conv2d(x, block.conv1.weight, stride=2, padding=1) * scale)
    y = functional.conv2d(y, block.conv2.weight, padding=1) * scale
    shortcut = functional.conv2d(x, block.downsample[0].weight, stride=2) * scale
    torch.testing.assert_close(block(x), functional.relu(y + shortcut))


def test_option_a_pads_channels_with_zeros():
    block = CifarBlock(2, 4, stride=2).eval()
    torch.nn.init.zeros_(block.conv2.weight)
    x = torch.rand(1, 2, 4, 4)
    y = block(x)
    assert torch.equal(y[:, 1:3], x[:, :, ::2, ::2])
    assert not y[:, 0].any() and not y[:, 3].any()


def test_strides_of_the_stages():
    trunk = Trunk(Basic, (1, 1, 1, 1), width=4).eval()
    second, third, fourth = trunk(torch.zeros(1, 3, 96, 256))
    assert second.shape == (1, 8, 12, 32)
    assert third.shape == (1, 16, 6, 16)
    assert fourth.shape == (1, 32, 3, 8)
    small = Trunk(Basic, (1, 1, 1, 1), width=4, stem="cifar").eval()
    assert small(torch.zeros(1, 3, 32, 32))[-1].shape == (1, 32, 4, 4)
    assert small.conv1.weight.shape == (4, 3, 3, 3)


def test_weights_start_with_the_variance_of_he():
    torch.manual_seed(0)
    weight = resnet.resnet18().layer4[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (512 * 9)) ** 0.5, rel=0.01)


@pytest.mark.parametrize("name", PUBLIC)
def test_public_weights_load(public: Path, name):
    model = load_public(getattr(resnet, name)(), public / PUBLIC[name]).eval()
    with torch.no_grad():
        logits = model(torch.zeros(2, 3, 32, 32))
    assert logits.shape == (2, 10) and bool(logits.isfinite().all())


def test_public_weights_of_another_depth_are_refused(public: Path):
    path = public / PUBLIC["resnet32"]
    with pytest.raises(ArtifactError) as raised:
        load_public(resnet.resnet20(), path)
    assert str(raised.value) == (
        f"weights {str(path)!r} must fit the network name by name, but there are 60 unexpected (layer1.3.conv1.weight, "
        "layer1.3.bn1.weight, layer1.3.bn1.bias and 57 more): build the network that the weights were trained for"
    )


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: CifarResNet(21), "depth must be 6 n + 2 (20, 32, 44, 56, …), not 21"),
        (lambda: CifarResNet(20, 0), "classes must be a whole number >= 1, not 0"),
        (lambda: Trunk(Basic, (1, 1)), "depths must be four whole numbers >= 1, not (1, 1)"),
        (lambda: Trunk(Basic, (1, 1, 1, 1), width=0), "width must be a whole number >= 1, not 0"),
        (
            lambda: Trunk(Basic, (1, 1, 1, 1), stem="mnist"),
            "stem must be 'imagenet' or 'cifar', not 'mnist'",
        ),
    ],
)
def test_options_are_checked(make, sentence):
    with pytest.raises(ConfigError) as raised:
        make()
    assert str(raised.value) == sentence
