"""How strong an update is, in plain words: the root mean square of ΔW's entries, in bands.

The bands are from 14 public LoRAs under free licences with updates that are not zero (diffusers,
kohya's and cloneofsimo's trainers, LyCORIS LoKr, PEFT, MLX, SAM; Stable Diffusion, RoBERTa,
Mistral, ViT): the least has 9.0e-5, a quarter 3.0e-4, the middle one 4.9e-4, three quarters 6.7e-3,
the most 1.8e-2. Weights of such models have a root mean square of about 2e-2.
"""

import math
from bisect import bisect_left
from itertools import accumulate
from typing import Any

from wsdemo.lora.geometry import Geometry

BANDS = ((0.0, "untrained"), (9e-5, "weak"), (7e-3, "usual"), (math.inf, "strong"))
"""Upper end of a band, its word. Beyond ``OVERDONE`` it is said so."""
OVERDONE = 2e-2
"""As large as the weights themselves."""
SOURCE = "14 public LoRAs: 9.0e-5 to 1.8e-2, middle 4.9e-4"
SPIKE = 0.95
"""Share of a module's energy in one direction, of a rank of 4 or more, that is called a spike."""


def strength(geometry: Geometry) -> dict[str, Any]:
    """The root mean square of all entries of ΔW, its band, and where the bands are from."""
    entries = sum(math.prod(m.shape) for m in geometry.modules)
    rms = (sum(m.departure**2 for m in geometry.modules) / max(1, entries)) ** 0.5
    word = next(word for end, word in BANDS if rms <= end)
    if rms > OVERDONE:
        word = "strong, as large as the weights themselves"
    return {"rms": rms, "band": word, "bands_from": SOURCE}


def spikes(geometry: Geometry) -> list[str]:
    """Modules of rank 4 or more that put nearly all they do into one direction."""
    return [
        m.name
        for m in geometry.modules
        if m.rank >= 4 and m.frobenius > 0 and (m.spectral / m.frobenius) ** 2 > SPIKE
    ]


def enough(geometry: Geometry) -> dict[str, int]:
    """The rank that holds a share of every module's energy: what ``resize --rank`` may be."""
    needed = dict.fromkeys((0.9, 0.99, 0.999), 1)
    for module in geometry.modules:
        whole = module.frobenius**2
        if whole <= 0:
            continue
        held = list(accumulate(s * s for s in module.singular_values.tolist()))
        for share, rank in needed.items():
            count = bisect_left(held, share * whole) + 1  # plain numbers: there may be 18,000
            needed[share] = max(rank, min(len(held), count))
    return {f"{share:g}": rank for share, rank in needed.items()}
