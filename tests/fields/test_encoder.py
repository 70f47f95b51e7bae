"""The amortised start: the base's own modulation, exactly, as mLoRA weights."""

import pytest
import torch

from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import BaseField, FieldConfig, evaluate, fourier_features, pixel_grid
from wsdemo.fields.encoder import AmortisedStart, Encoder, load_start, save_start

CONFIG = FieldConfig(width=16, frequencies=6, blocks=1, latent_dim=4, mapping_width=8)


def make() -> tuple[AmortisedStart, BaseField]:
    torch.manual_seed(0)
    field = BaseField(CONFIG, torch.Generator().manual_seed(0))
    return AmortisedStart(Encoder(4), field, 0.3 * torch.randn(4)), field


def faces(count: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    return torch.rand(count, 3, 64, 64, generator=g) * 2 - 1


@pytest.mark.parametrize("name", ["mlora", "mlora-asym"])
def test_start_decodes_to_what_the_modulated_base_shows(name):
    start, field = make()
    adapter = Adapter(field.freeze(start.mean), AdapterConfig(name, 8))
    points = pixel_grid(8, 8)
    instances = start(adapter, faces())
    z, _ = start.encoder(faces())
    shown = adapter.decode(instances, adapter.features(points))
    expected = field(points.expand(3, -1, -1), z)
    torch.testing.assert_close(shown, expected, rtol=1e-3, atol=1e-4)
    assert float((shown[0] - shown[1]).abs().max()) > 1e-3


def test_frozen_entries_stay_frozen():
    start, field = make()
    adapter = Adapter(field.freeze(start.mean), AdapterConfig("mlora-asym", 8))
    instances = start(adapter, faces())
    assert float(instances[:, ~adapter.trainable].abs().max()) == 0


def test_the_shared_start_shows_the_base():
    start, field = make()
    base = field.freeze(start.mean)
    features = fourier_features(pixel_grid(8, 8), base.frequencies)
    own = evaluate(features, [W[None] for W in base.weights], list(base.biases))
    adapter = Adapter(base, AdapterConfig("mlora", 4))
    torch.testing.assert_close(
        adapter.decode(adapter.start[None], features), own, rtol=1e-4, atol=1e-5
    )


def test_additive_lora_is_refused():
    start, field = make()
    adapter = Adapter(field.freeze(start.mean), AdapterConfig("lora", 4))
    with pytest.raises(ValueError, match="only mLoRA"):
        start(adapter, faces())


def test_file_round_trip(tmp_path):
    start, field = make()
    adapter = Adapter(field.freeze(start.mean), AdapterConfig("mlora", 4))
    save_start(tmp_path / "e.safetensors", start, "abc")
    again = load_start(tmp_path / "e.safetensors")
    torch.testing.assert_close(
        again(adapter, faces()), start(adapter, faces()), rtol=0.02, atol=0.02
    )  # stored in fp16
