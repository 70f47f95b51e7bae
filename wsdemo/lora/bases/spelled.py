"""A module's name in any program's spelling: the part of a pipeline, and the name within it."""

import re
from dataclasses import dataclass
from functools import lru_cache

from wsdemo.lora.bases.tables import flattened

_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:base_model\.model|_orig_mod|module|pipe\.dit)\.")
"""What PEFT, torch.compile, DistributedDataParallel and DiffSynth put into names."""
PREFIXES: tuple[tuple[str, str], ...] = (
    ("model.diffusion_model.", "model"), ("diffusion_model.", "model"), ("transformer.", "model"),
    ("transformer_2.", "model_2"), ("unet.", "model"), ("prior.", "model"), ("dit.", "model"),
    ("net.", "model"),
    ("lora_unet__", "model"), ("lora_unet_", "model"), ("lora_transformer_", "model"),
    ("lora_prior_unet_", "model"), ("lycoris_", "model"),
    ("text_encoders.clip_l.transformer.", "clip_l"),
    ("text_encoders.clip_g.transformer.", "clip_g"),
    ("text_encoders.t5xxl.transformer.", "t5_xxl"),
    ("text_encoder.", "text_encoder"), ("text_encoder_2.", "text_encoder_2"),
    ("text_encoder_3.", "text_encoder_3"), ("lora_te_", "text_encoder"),
    ("lora_prior_te_", "text_encoder"), ("lora_te1_", "text_encoder"),
    ("lora_te2_", "text_encoder_2"), ("lora_te3_", "text_encoder_3"),
)  # fmt: skip
"""How names begin → the part of a pipeline; ``model`` is its denoiser, and any other model."""
_UNET = re.compile(r"(down_blocks|up_blocks|mid_block)_")


@dataclass(frozen=True)
class Spelled:
    """A module's name, taken apart.

    Attributes:
        prefix: How it begins, as the file has it; empty for a bare name.
        part: Of a pipeline: ``model`` or ``text_encoder``, numbered from the second: ``model_2``.
        flat: The rest with underscores for dots, in lower case.
        rest: The rest as the file has it.
    """

    prefix: str
    part: str
    flat: str
    rest: str

    @property
    def is_flat(self) -> bool:
        """Whether its dots are lost."""
        return self.prefix.endswith("_")

    @property
    def key(self) -> str:
        """The same text for every spelling that differs in prefix, dots and letter case alone.

        Diffusers' first generation leaves out the ``.0`` of a U-Net's output layers.
        """
        flat = self.flat
        if flat.endswith("_to_out") and _UNET.match(flat):
            flat += "_0"
        return f"{self.part}:{flat}"


@lru_cache(100_000)
def spelled(name: str) -> Spelled:
    """Takes a module's name apart."""
    bare = unwrapped(name)
    for prefix, part in PREFIXES:
        if bare.startswith(prefix) and len(bare) > len(prefix):
            rest = bare[len(prefix) :]
            return Spelled(prefix, part, flattened(rest), rest)
    return Spelled("", "model", flattened(bare), bare)


def unwrapped(name: str) -> str:
    """A name without what wrappers of modules put into it."""
    return _WRAPPERS.sub("", name)
