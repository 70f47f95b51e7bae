"""The walk between two faces by the weights of every representation."""

import dataclasses

import pytest
import torch

from wsdemo.domains import pipelines
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import shipped_base
from wsdemo.maps import walk as walks
from wsdemo.maps import weight_map as maps


def test_every_representation_walks_from_one_face_to_the_other():
    faces = maps.weight_map("faces")
    pictures = maps.point_faces(faces, [3, 40])
    found = list(walks.walk_by_representation(pictures, 5))
    assert [w.representation for w in found] == list(walks.WALKED)
    for walk in found:
        assert walk.pictures.shape == (5, 3, 64, 64)
        ends = pipelines.mean_psnr(walk.pictures[[0, -1]], pictures)
        assert float(ends.min()) > 24, walk.representation  # each end shows its face
        assert walk.psnr[0] == walk.psnr[-1] == 60
        assert max(walk.psnr[1:-1]) < 50  # and the way leaves both
        assert min(walk.psnr) > 8
    again = next(iter(walks.walk_by_representation(pictures, 5)))
    assert torch.equal(again.pictures, found[0].pictures)


def test_a_refusal_names_what_differs_between_two_ends():
    a = maps.point_instance(maps.weight_map("faces"), 0)
    pipelines.check_ends(a, a)
    other = Adapter(shipped_base("faces-base")[0], AdapterConfig("mlora-asym", 8, 7))
    with pytest.raises(WsdemoError, match=r"One has seed 0; the other has seed 7\."):
        pipelines.check_ends(a, dataclasses.replace(a, adapter=other))
    with pytest.raises(WsdemoError, match=r"domain image, base faces.*domain sdf, base shape"):
        pipelines.check_ends(a, maps.point_instance(maps.weight_map("shapes"), 0))
