"""Captions, CelebA-CLIP, the face generator, and LoRAs of it."""

import copy
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from wsdemo.errors import WsdemoError
from wsdemo.generate.captions import (
    HAIR,
    MAX_WORDS,
    PAD,
    PROMPTS,
    SHOWN,
    START,
    TEXTURE,
    WORDS,
    WORN,
    caption,
    tokenise,
)
from wsdemo.generate.clip import FaceClip, clip_scores
from wsdemo.generate.lora_layers import adapt, lora_tensors, save_lora
from wsdemo.generate.text_to_face import FaceGenerator, GeneratorConfig, GeneratorNetwork
from wsdemo.lora.reader import read_lora

NAMES = ["Male", "Smiling", "Young", "Chubby", "Bald", "No_Beard", *HAIR, *TEXTURE, *WORN, *SHOWN]


@given(st.dictionaries(st.sampled_from(NAMES), st.booleans()), st.integers(0, 10_000))
def test_every_caption_can_be_read_and_invents_nothing(attributes, seed):
    text = caption(attributes, random.Random(seed))
    tokens = tokenise([text])[0]
    assert tokens[0] == START
    assert int((tokens != PAD).sum()) == len(text.split()) + 1
    for name, word in {**HAIR, **WORN}.items():
        if not attributes.get(name):
            assert word not in text.split()
    if not attributes.get("Male"):
        assert "man" not in text.split()
        assert "beard" not in text.split()


def test_there_are_33_prompts_and_all_can_be_read():
    assert len(set(PROMPTS)) == 33
    assert tokenise(PROMPTS).shape == (33, MAX_WORDS)
    assert len(set(WORDS)) == len(WORDS)


@pytest.mark.parametrize("text", ["a photo of a unicorn", "a " * 30, "<script>"])
def test_words_outside_the_vocabulary_are_refused_by_name(text):
    with pytest.raises(WsdemoError, match="cannot be read"):
        tokenise([text])


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return FaceClip(4).eval().requires_grad_(False)


@pytest.fixture(scope="module")
def generator(clip):
    torch.manual_seed(0)
    network = GeneratorNetwork(GeneratorConfig(32, 8, 24, 2, 2)).eval().requires_grad_(False)
    torch.nn.init.normal_(network.write.weight, std=0.3)
    for block in network.transformer_blocks:
        torch.nn.init.normal_(block.table, std=0.5)
    return FaceGenerator(network, torch.linspace(4, 0.1, 32), clip)


def test_a_text_does_not_depend_on_its_batch_or_padding(clip):
    many = clip.embed_text(tokenise(PROMPTS))
    one = clip.embed_text(tokenise([PROMPTS[7]]))
    torch.testing.assert_close(many[7:8], one, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(many.norm(dim=1), torch.ones(33))


def test_scores_are_a_hundred_times_a_cosine(clip):
    images = torch.randint(0, 256, (3, 3, 64, 64), dtype=torch.uint8)
    scores = clip_scores(images, list(PROMPTS[:3]), clip)
    assert scores.abs().max() <= 100.001
    a = clip.embed_images(images.float() / 127.5 - 1)
    b = clip.embed_text(tokenise(PROMPTS[:3]))
    torch.testing.assert_close(scores, 100 * (a * b).sum(1))


def test_the_contrastive_loss_is_least_for_matching_pairs(clip):
    own = clip.embed_text(tokenise(PROMPTS[:4]))
    tokens = tokenise(PROMPTS[:4])
    assert clip.loss(own, tokens) < clip.loss(own.flip(0), tokens)


def test_sampling_is_deterministic_and_hears_its_prompt(generator):
    texts = ["a photo of a man", "a photo of a woman wearing glasses"]
    one, two = (generator.sample(texts, seed=3, steps=4) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, generator.sample(texts, seed=4, steps=4))
    torch.testing.assert_close(one[:1], generator.sample(texts[:1], 3, 4), atol=1e-4, rtol=1e-4)
    other = generator.sample(["a photo of an old man", texts[1]], seed=3, steps=4)
    assert not torch.equal(one[0], other[0])
    torch.testing.assert_close(one[1], other[1], atol=1e-4, rtol=1e-4)


def test_guidance_of_one_is_plain_conditioning_and_of_zero_ignores_the_text(generator):
    texts = ["a photo of a man", "a photo of a woman"]
    zero = generator.sample(texts, 1, 3, guidance=0.0)
    free = generator.sample(["", ""], 1, 3, guidance=1.0)
    torch.testing.assert_close(zero, free, atol=1e-3, rtol=1e-3)


def test_a_silent_network_scores_one_under_its_own_prior(clip):
    network = GeneratorNetwork(GeneratorConfig(32, 8, 24, 1, 2)).eval()
    variances = torch.linspace(4, 0.1, 32)
    generator = FaceGenerator(network, variances, clip)  # its last layer starts at zero
    g = torch.Generator().manual_seed(0)
    y = torch.randn(4000, 32, generator=g) * variances.sqrt()
    with torch.no_grad():
        loss = generator.loss(y, generator.read([""] * 4000), g).mean()
    assert float(loss) == pytest.approx(1.0, abs=0.03)


# ---- LoRA layers --------------------------------------------------------------------------


def test_fresh_lora_layers_change_nothing_and_trained_ones_add_b_times_a(generator):
    network = copy.deepcopy(generator.network)
    layers = adapt(network, ("to_q", "to_v"))
    assert len(layers) == 2 * 2 * 2  # blocks × attentions × (q, v)
    g = torch.Generator().manual_seed(0)
    for layer in layers.values():
        layer.reset(3, g)
    adapted = FaceGenerator(network, generator.prior.variances, generator.clip)
    text = ["a photo of a man"]
    torch.testing.assert_close(adapted.sample(text, 0, 2), generator.sample(text, 0, 2))
    for layer in layers.values():
        torch.nn.init.normal_(layer.B, std=0.5)
    merged = copy.deepcopy(generator.network)
    for path, layer in layers.items():
        merged.get_submodule(path).weight.data += (layer.B @ layer.A).detach()
    expected = FaceGenerator(merged, generator.prior.variances, generator.clip)
    with torch.no_grad():
        torch.testing.assert_close(
            adapted.sample(text, 0, 2), expected.sample(text, 0, 2), atol=1e-4, rtol=1e-4
        )
    assert not torch.allclose(adapted.sample(text, 0, 2), generator.sample(text, 0, 2))


def test_a_written_lora_is_read_as_the_update_it_is(generator, tmp_path):
    network = copy.deepcopy(generator.network)
    layers = adapt(network, ("to_q",))
    g = torch.Generator().manual_seed(0)
    for layer in layers.values():
        layer.reset(3, g)
        torch.nn.init.normal_(layer.B)
    path = tmp_path / "x.safetensors"
    save_lora(path, lora_tensors(layers, "transformer"), 3, "wsdemo/faces-generator@1", {"a": 1})
    found = read_lora(path)
    assert found.is_exact
    assert found.base.name == "wsdemo/faces-generator@1"
    assert found.warnings == ()
    for module in found.modules:
        layer = layers[module.name.removeprefix("transformer.")]
        product = (layer.B.detach() @ layer.A.detach()).float()
        torch.testing.assert_close(module.U @ module.V.T, product, atol=2e-3, rtol=2e-3)
