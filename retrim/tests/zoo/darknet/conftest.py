"""Networks from a few lines of cfg, and real ones."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from retrim.zoo.darknet import DarknetNetwork, parse_sections

NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"
# A head on layer 0, whatever lies between.
TAIL = (
    "[route]\nlayers=0\n"
    "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n"
    "[yolo]\nmask=0,1\nanchors=4,6, 9,5\nnum=2\nclasses=2\n"
)
SMALL = (
    "[net]\nwidth=64\nheight=64\nchannels=3\n"
    "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nbatch_normalize=1\nactivation=leaky\n"
    "[maxpool]\nsize=2\nstride=2\n"
    "[convolutional]\nfilters=12\nsize=3\nstride=2\npad=1\nbatch_normalize=1\nactivation=leaky\n"
    "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n"
    "[yolo]\nmask=2,3\nanchors=5,6, 9,12, 20,16, 30,40\nnum=4\nclasses=3\nignore_thresh=.5\nscale_x_y=1.1\n"
    "[route]\nlayers=-3\n"
    "[upsample]\nstride=2\n"
    "[route]\nlayers=-1,1\n"
    "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n"
    "[yolo]\nmask=0,1\nanchors=5,6, 9,12, 20,16, 30,40\nnum=4\nclasses=3\nignore_thresh=.4\niou_thresh=.3\n"
)


@pytest.fixture
def network():
    """A network from the text of a cfg, always with the same weights."""

    def network(text: str) -> DarknetNetwork:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            made = DarknetNetwork(parse_sections(text, "a.cfg"))
            for module in made.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.running_mean.normal_(0, 0.1)
                    module.running_var.uniform_(0.5, 2)
        return made.eval()

    return network


@pytest.fixture
def between(network):
    """A network whose layers from 1 on are the given ones, behind a convolution of 6 filters."""

    def between(text: str) -> DarknetNetwork:
        return network(f"{NET}[convolutional]\nfilters=6\nsize=1\nactivation=linear\n{text}{TAIL}")

    return between


@pytest.fixture
def small(network):
    """Two heads, at strides 8 and 4."""
    return network(SMALL)


@pytest.fixture
def yolo() -> Path:
    """Real cfg and weights."""
    root = os.environ.get("RETRIM_DATA") or Path(__file__).parents[5] / "shared" / "data"
    folder = Path(root) / "yolo"
    if not folder.is_dir():
        pytest.skip(f"Yolo-Fastest's files are not in {folder}; set RETRIM_DATA to the folder of the data")
    return folder


@pytest.fixture
def small_cfg() -> str:
    """The text of a cfg with two heads."""
    return SMALL
