"""CelebA-CLIP: a small CLIP of faces and captions, and the CLIP score that it gives.

Trained by us on captions made from CelebA's attributes (captions.py), so its score compares
our own generators with each other and nothing more; it is called CelebA-CLIP wherever it
appears. Radford et al., 2021: images and texts meet in one space, with the symmetric
cross-entropy over the batch

    L = ½ CE(s · I Tᵀ) + ½ CE(s · T Iᵀ),   rows of I and T of unit length.
"""

from collections.abc import Sequence
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wsdemo.analysis.features import FEATURES, FaceFeatures
from wsdemo.checkpoints import DIRECTORY, load_checkpoint
from wsdemo.generate.captions import MAX_WORDS, PAD, WORDS, tokenise

TEXT_WIDTH = 96
"""Width of the text tower's hidden states, which the face generator attends to."""
EMBEDDING = 64


class FaceClip(nn.Module):
    """Image tower: FaceAttr-64's trunk. Text tower: a transformer of two layers."""

    def __init__(self, attributes: int = 40) -> None:
        super().__init__()
        self.trunk = FaceFeatures(attributes)
        self.image_out = nn.Linear(FEATURES, EMBEDDING, bias=False)
        self.words = nn.Embedding(len(WORDS), TEXT_WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(MAX_WORDS, TEXT_WIDTH))
        layer = nn.TransformerEncoderLayer(
            TEXT_WIDTH, 4, 2 * TEXT_WIDTH, dropout=0.0, batch_first=True, norm_first=True
        )
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(TEXT_WIDTH)
        self.text_out = nn.Linear(TEXT_WIDTH, EMBEDDING, bias=False)
        self.log_scale = nn.Parameter(torch.tensor(2.3))

    def hidden(self, tokens: Tensor) -> Tensor:
        """(n, T) tokens → (n, T, TEXT_WIDTH) hidden states; those of padding mean nothing."""
        h = self.words(tokens) + self.positions
        out: Tensor = self.norm(self.layers(h, src_key_padding_mask=tokens == PAD))
        return out

    def embed_text(self, tokens: Tensor) -> Tensor:
        """(n, T) tokens → (n, EMBEDDING) of unit length."""
        real = (tokens != PAD)[..., None].float()
        mean = (self.hidden(tokens) * real).sum(1) / real.sum(1)
        return F.normalize(self.text_out(mean), dim=1)

    def embed_images(self, images: Tensor) -> Tensor:
        """(n, 3, 64, 64) float in [-1, 1] → (n, EMBEDDING) of unit length."""
        return F.normalize(self.image_out(self.trunk.features(images)), dim=1)

    def loss(self, images: Tensor, tokens: Tensor) -> Tensor:
        """The symmetric contrastive loss of n pairs: embedded images (n, EMBEDDING), tokens."""
        logits = self.log_scale.exp() * images @ self.embed_text(tokens).T
        target = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


@cache
def shipped_clip() -> FaceClip:
    """The shipped CelebA-CLIP."""
    tensors, _ = load_checkpoint(DIRECTORY / "faces-clip.safetensors")
    model = FaceClip()
    model.load_state_dict({k: v.float() for k, v in tensors.items()})
    return model.eval().requires_grad_(False)


@torch.no_grad()
def clip_scores(images: Tensor, texts: Sequence[str], model: FaceClip | None = None) -> Tensor:
    """100 · cos(image, text) in CelebA-CLIP's space: (n, 3, 64, 64) uint8, n texts → (n,)."""
    model = model or shipped_clip()
    pixels = [model.embed_images(b.float() / 127.5 - 1) for b in images.split(128)]
    words = model.embed_text(tokenise(texts))
    return 100 * (torch.cat(pixels) * words).sum(1)
