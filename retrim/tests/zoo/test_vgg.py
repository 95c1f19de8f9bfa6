import pytest
import torch

from retrim.errors import ConfigError
from retrim.zoo.vgg import VGG, vgg16, vgg16_bn


@pytest.mark.parametrize(
    ("make", "count"),
    [
        (lambda: vgg16(), 138_357_544),
        (lambda: vgg16_bn(), 138_365_992),
        (lambda: vgg16_bn(10, head="cifar"), 14_728_266),
    ],
)
def test_parameters_are_as_many_as_published(make, count):
    with torch.device("meta"):
        model = make()
    assert sum(weight.numel() for weight in model.parameters()) == count


def test_names_are_torchvisions():
    with torch.device("meta"):
        plain, normed = vgg16().state_dict(), vgg16_bn().state_dict()
    assert plain["features.28.weight"].shape == (512, 512, 3, 3)
    assert plain["classifier.6.weight"].shape == (1000, 4096)
    assert normed["features.40.weight"].shape == (512, 512, 3, 3)
    assert normed["features.41.running_mean"].shape == (512,)


def test_small_images_give_logits():
    torch.manual_seed(0)
    model = vgg16_bn(7, head="cifar").eval()
    with torch.no_grad():
        assert model(torch.zeros(2, 3, 32, 32)).shape == (2, 7)
    assert model.classifier.weight.std().item() == pytest.approx(0.01, rel=0.05)
    assert not model.features[0].bias.any()


def test_options_are_checked():
    with pytest.raises(ConfigError) as raised:
        VGG(10, head="mnist")
    assert str(raised.value) == "head must be 'imagenet' or 'cifar', not 'mnist'"
    with pytest.raises(ConfigError) as raised:
        VGG(0)
    assert str(raised.value) == "classes must be a whole number >= 1, not 0"
