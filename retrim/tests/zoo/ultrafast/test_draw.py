import numpy as np
from PIL import Image

from retrim.zoo.ultrafast import draw


def test_lanes_are_drawn_where_they_are():
    image = Image.new("RGB", (64, 36))
    rows = np.array([10.0, 20.0, 30.0])
    drawn = np.asarray(draw(image, rows, np.array([[20.0, 20.0, 20.0]]), np.array([[50.0, -2.0, -2.0]])))
    assert drawn[15, 20, 1] > 200 and not drawn[5, 20].any()
    assert drawn[10, 50, 0] > 200 and not drawn[20, 50].any()
    assert not np.asarray(image).any()
