import pytest
import torch

from retrim.errors import ConfigError
from retrim.zoo import classifiers
from retrim.zoo.resnet import CifarResNet


@pytest.mark.parametrize("name", classifiers.NAMES)
def test_every_name_builds(name):
    with torch.device("meta"):
        model = classifiers.build(name, 10, images="cifar")
    assert list(model.parameters())[-1].shape == (10,)


def test_the_seed_alone_decides_and_leaves_torch_as_it_was():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = classifiers.build("resnet20", 10, images="cifar", seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.rand(1)
    second = classifiers.build("resnet20", 10, images="cifar", seed=3)
    assert torch.equal(first.conv1.weight, second.conv1.weight)
    other = classifiers.build("resnet20", 10, images="cifar", seed=4)
    assert not torch.equal(first.conv1.weight, other.conv1.weight)


def test_weights_are_put_in(tmp_path):
    there = CifarResNet(20)
    torch.save(there.state_dict(), tmp_path / "w.pt")
    here = classifiers.build("resnet20", 10, images="cifar", weights=tmp_path / "w.pt")
    assert torch.equal(here.linear.weight, there.linear.weight)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            {"name": "alexnet"},
            "classifier must be one of resnet18, resnet50, resnet20, resnet32, resnet56, vgg16, vgg16_bn, not 'alexnet'",
        ),
        ({"name": "vgg16", "images": "mnist"}, "images must be 'imagenet' or 'cifar', not 'mnist'"),
        ({"name": "resnet20"}, "images must be 'cifar' for resnet20, not 'imagenet'"),
    ],
)
def test_options_are_checked(options, sentence):
    with pytest.raises(ConfigError) as raised:
        classifiers.build(classes=10, **options)
    assert str(raised.value) == sentence
