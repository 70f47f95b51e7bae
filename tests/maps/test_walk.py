"""The walk between two faces by the weights of every representation."""

import dataclasses

import numpy as np
import pytest
import torch

from wsdemo.analysis.reconstruction import psnr
from wsdemo.cli.main import main
from wsdemo.domains.faces import FACES
from wsdemo.domains.instances import check_ends, decode
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base_files import shipped_base
from wsdemo.maps.walk import walk_by_representation
from wsdemo.maps.weight_map import point_instance, weight_map
from wsdemo.media.mesh_files import open_mesh


@pytest.mark.slow
def test_every_representation_walks_from_one_face_to_the_other():
    faces = weight_map("faces")
    pictures = decode([point_instance(faces, i) for i in (3, 40)])
    found = list(walk_by_representation(FACES, pictures, 5))
    assert [w.representation for w in found] == list(FACES.walking.ranks)
    for walk in found:
        assert torch.stack(walk.shown).shape == (5, 3, 64, 64)
        ends = psnr(torch.stack(walk.shown)[[0, -1]], torch.stack(pictures))
        assert float(ends.min()) > 24, walk.representation  # each end shows its face
        assert walk.nearness[0] == walk.nearness[-1] == 60
        assert max(walk.nearness[1:-1]) < 50  # and the way leaves both
        assert min(walk.nearness) > 8
    again = next(iter(walk_by_representation(FACES, pictures, 5)))
    assert torch.equal(torch.stack(again.shown), torch.stack(found[0].shown))


def test_a_refusal_names_what_differs_between_two_ends():
    a = point_instance(weight_map("faces"), 0)
    check_ends(a, a)
    other = Adapter(shipped_base("faces-base")[0], AdapterConfig("mlora-asym", 8, 7))
    with pytest.raises(WsdemoError, match=r"One has seed 0; the other has seed 7\."):
        check_ends(a, dataclasses.replace(a, adapter=other))
    with pytest.raises(WsdemoError, match=r"domain image, base faces.*domain sdf, base shape"):
        check_ends(a, point_instance(weight_map("shapes"), 0))


def test_a_walk_begins_and_ends_where_its_ends_stand(tmp_path):
    places = (
        {"centre_x": 1.0, "centre_y": 2.0, "centre_z": 3.0, "scale": 4.0, "z_up": 1.0},
        {"centre_x": -50.0, "centre_y": 0.0, "centre_z": 7.0, "scale": 0.5},
    )
    files = [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    for file, index, place in zip(files, (0, 9), places, strict=True):
        dataclasses.replace(point_instance(weight_map("shapes"), index), measured=place).save(file)
        decoded = str(file.with_suffix(".glb"))
        assert main(["decode", str(file), "--resolution", "64", "--out", decoded]) == 0
    out = tmp_path / "walk"
    assert main(["walk", *map(str, files), "--steps", "3", "--out", str(out)]) == 0
    for file, step in zip(files, (0, 2), strict=True):
        wanted, found = (
            open_mesh(path)[0].vertices
            for path in (file.with_suffix(".glb"), out / f"step-{step:02d}.glb")
        )
        np.testing.assert_allclose(found.min(0), wanted.min(0), atol=1e-4)
        np.testing.assert_allclose(found.max(0), wanted.max(0), atol=1e-4)
