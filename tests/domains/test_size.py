"""The size of a domain comes from its base's metadata: faces of another size need no other code."""

import dataclasses

import pytest
from PIL import Image

from wsdemo.checkpoints import load_checkpoint
from wsdemo.cli.main import main
from wsdemo.domains.domain import FitOptions
from wsdemo.domains.faces import FACES
from wsdemo.domains.fitting import fit_original
from wsdemo.domains.instances import decode_one, open_instance
from wsdemo.domains.registry import DOMAINS
from wsdemo.train.faces import base as faces_base
from wsdemo.train.faces import diffusion as faces_diffusion
from wsdemo.train.faces import fit as faces_fit

SIZE = 128


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Faces of 128x128 pixels, trained on made-up ones in their place."""
    root = tmp_path_factory.mktemp("large")
    common = ["--toy", f"--runs={root}/runs", f"--out={root}/out"]
    faces_base.main([*common, f"--size={SIZE}", "--steps=20"])
    faces_fit.main([*common, "--count=24", "--steps=2"])
    faces_diffusion.main([*common, "--steps=3", "--directions=8"])
    domain = dataclasses.replace(FACES, folder=root / "out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(DOMAINS, FACES.name, domain)
        yield domain


def test_faces_of_another_size_are_fitted_drawn_and_decoded_at_it(large, tmp_path):
    assert large.size == SIZE
    assert load_checkpoint(large.checkpoint("diffusion"))[1]["size"] == SIZE
    photo = tmp_path / "photo.png"
    Image.new("RGB", (200, 150), (200, 150, 120)).save(photo)
    original = large.open(large, photo)
    assert original.value.shape == (3, SIZE, SIZE)
    last = list(fit_original(large, original, FitOptions(steps=3)))[-1]
    assert last.shown.shape == (3, SIZE, SIZE)
    assert last.instance.size == SIZE
    last.instance.save(tmp_path / "x.safetensors")
    assert decode_one(open_instance(tmp_path / "x.safetensors")).shape == (3, SIZE, SIZE)
    given = ["sample", "faces", "--count", "1", "--steps", "2", "--out", str(tmp_path)]
    assert main(given) == 0
    assert Image.open(tmp_path / "faces-seed0-000.png").size == (SIZE, SIZE)
