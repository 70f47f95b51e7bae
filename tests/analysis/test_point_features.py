import numpy as np
import torch

from tests.media.shapes import ball, box
from wsdemo.analysis.generation import frechet_distance
from wsdemo.analysis.point_features import FEATURES, point_features, shipped_features
from wsdemo.analysis.shapes import standard_cloud


def test_features_see_the_shape_and_not_the_order_of_its_points():
    cloud = standard_cloud(ball(), seed=0)
    order = np.random.default_rng(0).permutation(1024)
    same, other = (
        point_features([cloud[:1024], cloud[:1024][order]]),
        point_features([standard_cloud(box(), seed=0)]),
    )
    assert same.shape == (2, FEATURES)
    torch.testing.assert_close(same[0], same[1])
    assert float((other[0] - same[0]).norm()) > 0.1 * float(same[0].norm())
    assert len(shipped_features()[1]) == 10


def test_two_draws_of_the_same_shapes_are_nearer_than_other_shapes():
    balls = [[standard_cloud(ball(), seed=10 * k + i) for i in range(8)] for k in (0, 1)]
    boxes = [standard_cloud(box(), seed=i) for i in range(8)]
    a, b, c = (point_features(x) for x in (*balls, boxes))
    assert frechet_distance(a, b) < 0.1 * frechet_distance(a, c)
