import torch

from retrim.zoo.resnet import Basic, ResNet, load_public
from retrim.zoo.ultrafast import PAPER, Config, UltraFast

TINY = Config(height=64, width=96, cells=10, channels=4, hidden=8, anchors=(0.2, 0.4, 0.6, 0.8))


def test_parameters_of_the_papers_network():
    with torch.device("meta"):
        model = UltraFast(PAPER)
    trunk = 11_689_512 - 513_000  # ResNet-18 without its classifier
    head = 512 * 8 + 8 + 1800 * 2048 + 2048 + 2048 * 22_624 + 22_624
    assert sum(weight.numel() for weight in model.parameters()) == trunk + head


def test_names_are_the_authors():
    with torch.device("meta"):
        names = UltraFast(Config(auxiliary=True)).state_dict()
    for name, shape in {
        "model.conv1.weight": (64, 3, 7, 7),
        "model.layer4.0.downsample.1.running_var": (512,),
        "pool.weight": (8, 512, 1, 1),
        "cls.0.weight": (2048, 1800),
        "cls.2.bias": (22_624,),
        "aux_header2.3.bn.bias": (128,),
        "aux_header3.0.conv.weight": (128, 256, 3, 3),
        "aux_header4.1.conv.weight": (128, 128, 3, 3),
        "aux_combine.0.conv.weight": (256, 384, 3, 3),
        "aux_combine.4.weight": (5, 128, 1, 1),
    }.items():
        assert names[name].shape == shape
    assert not any(name.startswith("model.fc") for name in names)


def test_logits_lie_as_the_authors():
    torch.manual_seed(0)
    model = UltraFast(TINY).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        flat = model.cls(model.pool(model.model(x)[-1]).reshape(2, -1))
        logits = model(x)
    assert logits.shape == (2, 11, 4, 4)
    assert logits[1, 3, 2, 1] == flat[1, 3 * 16 + 2 * 4 + 1]


def test_the_auxiliary_branch_changes_no_lane():
    torch.manual_seed(0)
    model = UltraFast(Config(height=64, width=96, channels=4, hidden=8, auxiliary=True)).eval()
    x = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        logits, segmentation = model.forward_with_segmentation(x)
        torch.testing.assert_close(logits, model(x))
    assert segmentation.shape == (1, 5, 8, 12)


def test_weights_with_the_branch_load_without_it(tmp_path):
    helped = UltraFast(Config(height=64, width=96, channels=4, hidden=8, auxiliary=True))
    torch.save(
        {"model": {f"module.{name}": value for name, value in helped.state_dict().items()}},
        tmp_path / "w.pth",
    )
    plain = UltraFast(Config(height=64, width=96, channels=4, hidden=8))
    load_public(plain, tmp_path / "w.pth", ignore=("aux_",))
    assert torch.equal(plain.cls[2].weight, helped.cls[2].weight)


def test_a_classifiers_trunk_loads(tmp_path):
    classifier = ResNet(Basic, (2, 2, 2, 2), 3, width=4)
    torch.save(classifier.state_dict(), tmp_path / "w.pth")
    model = UltraFast(TINY)
    load_public(model.model, tmp_path / "w.pth", ignore=("fc.",))
    assert torch.equal(model.model.layer3[1].conv2.weight, classifier.layer3[1].conv2.weight)
