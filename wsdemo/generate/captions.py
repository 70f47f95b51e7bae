"""Captions of faces: a small grammar over CelebA's attributes, its vocabulary, 33 prompts.

A caption names some of what is true of a face ("a photo of a smiling young woman with blond
hair wearing lipstick"). Parts are left out at random, so that short prompts mean something too.
"""

import random
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from wsdemo.errors import WsdemoError

MAX_WORDS = 20
"""Tokens of a caption, the start token included; longer ones are refused."""
START, PAD = 1, 0

HAIR = {"Black_Hair": "black", "Blond_Hair": "blond", "Brown_Hair": "brown", "Gray_Hair": "gray"}
TEXTURE = {"Wavy_Hair": "wavy", "Straight_Hair": "straight"}
WORN = {
    "Eyeglasses": "glasses", "Wearing_Hat": "hat", "Wearing_Lipstick": "lipstick",
    "Wearing_Earrings": "earrings", "Wearing_Necktie": "necktie",
}  # fmt: skip
SHOWN = {
    "Bangs": "bangs", "Big_Lips": "full lips", "Mustache": "mustache", "Goatee": "goatee",
    "Pale_Skin": "pale skin", "Mouth_Slightly_Open": "open mouth", "Big_Nose": "big nose",
}  # fmt: skip

WORDS = (
    "<pad>", "<start>", "a", "photo", "picture", "portrait", "of", "smiling", "serious", "young",
    "old", "man", "woman", "person", "with", "and", "hair", "wearing", "bald", "beard", "no",
    "chubby", *HAIR.values(), *TEXTURE.values(), *WORN.values(),
    *dict.fromkeys(word for text in SHOWN.values() for word in text.split()),
)  # fmt: skip
"""The whole vocabulary; a token is a place in it."""

PROMPTS = (
    "a photo of a person", "a photo of a man", "a photo of a woman", "a portrait of a young man",
    "a portrait of a young woman", "a photo of an old man", "a photo of an old woman",
    "a photo of a smiling man", "a photo of a smiling woman", "a photo of a serious man",
    "a photo of a serious woman", "a photo of a person with black hair",
    "a photo of a person with blond hair", "a photo of a person with brown hair",
    "a photo of a person with gray hair", "a photo of a bald man", "a photo of a man with beard",
    "a photo of a man with no beard", "a photo of a man with mustache",
    "a photo of a man wearing glasses", "a photo of a woman wearing glasses",
    "a photo of a person wearing hat", "a photo of a woman wearing lipstick",
    "a photo of a woman wearing earrings", "a photo of a man wearing necktie",
    "a photo of a woman with bangs", "a photo of a woman with full lips",
    "a photo of a smiling young woman with blond hair", "a photo of a young man with black hair",
    "a photo of an old man with gray hair wearing glasses",
    "a portrait of a young woman with brown wavy hair", "a picture of a chubby man",
    "a picture of a person with open mouth",
)  # fmt: skip
"""What a generator is scored on (Paper B uses 33 fixed prompts)."""


def caption(attributes: Mapping[str, bool], rng: random.Random) -> str:
    """A caption of a face with these CelebA attributes; no parts are invented, some left out."""

    def true(name: str) -> bool:
        return bool(attributes.get(name, False))

    def happens(chance: float) -> bool:
        return rng.random() < chance

    words = ["a", rng.choice(("photo", "picture", "portrait")), "of", "a"]
    if happens(0.5):
        words.append("smiling" if true("Smiling") else "serious")
    if happens(0.5):
        words.append("young" if true("Young") else "old")
    if true("Chubby") and happens(0.6):
        words.append("chubby")
    if true("Bald") and happens(0.8):
        words.append("bald")
    words.append(("man" if true("Male") else "woman") if happens(0.85) else "person")
    parts: list[list[str]] = []
    colours = [word for name, word in HAIR.items() if true(name)]
    if colours and happens(0.6):
        textures = [word for name, word in TEXTURE.items() if true(name) and happens(0.5)]
        parts.append([colours[0], *textures, "hair"])
    if true("Male") and happens(0.5):
        parts.append(["no", "beard"] if true("No_Beard") else ["beard"])
    parts += [text.split() for name, text in SHOWN.items() if true(name) and happens(0.4)]
    words += _joined("with", parts[:3])
    worn = [[word] for name, word in WORN.items() if true(name) and happens(0.6)]
    words += _joined("wearing", worn[:2])
    return " ".join(words[: MAX_WORDS - 1])


def _joined(first: str, parts: Sequence[Sequence[str]]) -> list[str]:
    words: list[str] = []
    for i, part in enumerate(parts):
        words += [first if i == 0 else "and", *part]
    return words


def tokenise(texts: Sequence[str]) -> Tensor:
    """Texts → (n, MAX_WORDS) long, a start token first, padding after the last word.

    Raises:
        WsdemoError: A word is not in the vocabulary, or a text is too long.
    """
    place = {word: i for i, word in enumerate(WORDS)} | {"an": WORDS.index("a")}
    tokens = torch.full((len(texts), MAX_WORDS), PAD)
    tokens[:, 0] = START
    for row, text in enumerate(texts):
        words = text.lower().replace(",", " ").split()
        unknown = sorted({w for w in words if w not in place})
        if unknown or len(words) >= MAX_WORDS:
            strange = f"unknown words {', '.join(w[:20] for w in unknown[:5])}"
            raise WsdemoError(
                "This text cannot be read",
                f"Found {strange if unknown else f'{len(words)} words'};"
                f" expected at most {MAX_WORDS - 1} of: {', '.join(WORDS[2:])}.",
                "Describe a face with those words.",
            )
        for i, word in enumerate(words):
            tokens[row, 1 + i] = place[word]
    return tokens
