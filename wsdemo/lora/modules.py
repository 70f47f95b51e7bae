"""What every LoRA is here: pairs U, V per module, scale folded in, never multiplied out."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

TRAINER_KEYS = (
    "modelspec.title", "modelspec.author", "modelspec.date", "modelspec.license",
    "modelspec.trigger_phrase", "ss_output_name", "ss_training_comment", "ss_network_module",
    "ss_network_dim", "ss_network_alpha", "ss_network_args", "ss_optimizer", "ss_learning_rate",
    "ss_unet_lr", "ss_text_encoder_lr", "ss_lr_scheduler", "ss_epoch", "ss_steps",
    "ss_num_train_images", "ss_resolution", "ss_mixed_precision", "ss_seed",
)  # fmt: skip
"""What kohya's programs and the Model Metadata Standard note of a training."""


@dataclass(frozen=True)
class LoraModule:
    """The update of one weight matrix, ΔW = U Vᵀ (multiplicative: W' = W ⊙ (offset + U Vᵀ)).

    Attributes:
        name: Of the module that it adapts, as the file spells it.
        U: (n, r) float32, with the scale folded in.
        V: (m, r) float32. For a convolution m = channels · kernel size.
        scale: What was folded into U, α/r or as the family defines it.
        stored_rank: r in the file.
        shape: Of the adapted weight, with kernel sides if it is a convolution.
        kind: ``additive`` or ``multiplicative``.
        note: How it was converted, if it was no plain pair; empty if it was.
        kept: Share of ‖ΔW‖² that U Vᵀ holds; below 1 where columns were cut.
        is_certain: Whether nothing but columns is missing: no assumed scale, no DoRA, no second
            update of the module, no base that was changed with it.
        magnitude: (n,) DoRA's magnitudes, reported but not applied.
        is_embedding: Whether ΔW is that of an embedding, (entries, width).
        keys: Its tensors as the file spells them, α and magnitude included. Experts that are
            stored together all have the same.
        dtype: Type of the stored factors, such as ``F16``, the widest if they differ; of quantised
            ones that of the file.
        piece: (i, k) if it is the i-th of k experts that are stored as one module; else (0, 1).
        offset: What a multiplicative update adds to U Vᵀ: 1 for HiRA, 0 for mLoRA.
        is_whole: Whether the file holds ΔW itself (``diff``), of which U Vᵀ is a decomposition.
        is_rewritten: Whether U and V are no longer what ``keys`` hold.
    """

    name: str
    U: Tensor
    V: Tensor
    scale: float
    stored_rank: int
    shape: tuple[int, ...]
    kind: str = "additive"
    note: str = ""
    kept: float = 1.0
    is_certain: bool = True
    magnitude: Tensor | None = None
    is_embedding: bool = False
    keys: tuple[str, ...] = ()
    dtype: str = "F32"
    piece: tuple[int, int] = (0, 1)
    offset: float = 0.0
    is_whole: bool = False
    is_rewritten: bool = False

    @property
    def rank(self) -> int:
        """Columns of U and V."""
        return self.U.shape[1]

    @property
    def is_cut(self) -> bool:
        """Whether columns were left out that hold more than rounding does."""
        return self.kept < 1 - 1e-6

    @property
    def is_exact(self) -> bool:
        """Whether U Vᵀ is the update itself, to rounding."""
        return self.is_certain and not self.is_cut


@dataclass(frozen=True)
class IgnoredKey:
    """A tensor that is no part of the update, and why it was left out."""

    key: str
    why: str


@dataclass(frozen=True)
class KeptTensor:
    """A tensor of the file that is no part of any U Vᵀ; a written file may carry it through.

    Nothing of it is in memory: ``kept.read_kept`` reads it, as it is stored.

    Attributes:
        key: As the file spells it.
        dtype: As safetensors names types: ``F16``.
        shape: As stored; a side of 0 if it is empty.
        path: The file that holds it, one of the shards if there are several.
        what: ``bias``, ``head`` (whole modules, classifiers), ``embedding``, ``norm``,
            ``tokens`` (new rows of an embedding), ``difference`` (a whole difference of a vector,
            modulation or bias), ``mark`` (quantisation and the like, without effect on its own),
            ``unread`` (part of an update that was not read: a half, a second update, another
            adapter), or ``other``.
        why: The same in a sentence.
        module: The module of ``Lora.modules`` that it stands beside; empty if none. A bias
            ``lora_B.bias`` is scaled as that module is: Δb = scale · bias.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    what: str
    why: str
    module: str = ""


@dataclass(frozen=True)
class BaseModel:
    """What the adapter was made for.

    Attributes:
        name: What the strongest source says; empty if none says anything.
        evidence: Where it was read, strongest first: (source, what it says).
        disagreement: Says so if the sources contradict each other.
        candidates: Keys of the tables that its keys and shapes allow, the likeliest first.
        sizes_fit: Whether the shapes are those of these tables.
    """

    name: str
    evidence: tuple[tuple[str, str], ...] = ()
    disagreement: str = ""
    candidates: tuple[str, ...] = ()
    sizes_fit: bool = False


@dataclass(frozen=True)
class Lora:
    """A LoRA file, read.

    Attributes:
        family: Which program's format it is.
        modules: In order of name.
        base: What it was made for.
        alphas: The distinct α that the file gives; empty if it gives none.
        dtypes: Tensors per data type.
        used_keys: How many tensors are part of the update.
        ignored: Those that are not, with the reason.
        warnings: What its author should know.
        metadata: The file's own texts.
        config: adapter_config.json, if there was one.
        left_out: Modules whose update could not be read, or of which there is only a half.
        kept: The tensors in ``ignored``, with their place: together with those of the modules'
            ``keys`` they are all tensors of the file.
        source: The file that was read: of a folder the one in it, of a sharded adapter its index
            or the shard that was named.
        places: Key → shard; empty if ``source`` holds everything.
        doubts: Why the file as a whole is not exact, whatever its modules are.
        carried: Tensors to write beside the modules, by key, instead of what ``kept`` says is in
            the file: of a sum.
    """

    family: str
    modules: tuple[LoraModule, ...]
    base: BaseModel
    alphas: tuple[float, ...]
    dtypes: dict[str, int]
    used_keys: int
    ignored: tuple[IgnoredKey, ...]
    warnings: tuple[str, ...]
    metadata: dict[str, str] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    left_out: int = 0
    kept: tuple[KeptTensor, ...] = ()
    source: Path | None = None
    places: Mapping[str, Path] = field(default_factory=dict)
    doubts: tuple[str, ...] = ()
    carried: Mapping[str, Tensor] | None = None

    @property
    def is_exact(self) -> bool:
        """Whether every module was read, and each is the update itself.

        Tensors that are no update of a weight (heads, biases, norms) are in ``kept`` and do not
        count; a key that is not known, beside a module, and a setting that changes what the
        factors mean do.
        """
        return not self.doubts and self.left_out == 0 and all(m.is_exact for m in self.modules)

    @property
    def trainer(self) -> dict[str, str]:
        """What the trainer noted of its settings: known keys of the metadata, 200 characters."""
        return {k: self.metadata[k][:200] for k in TRAINER_KEYS if self.metadata.get(k)}

    @property
    def magnitudes(self) -> tuple[float, float] | None:
        """The smallest and the largest of DoRA's magnitudes, if there are any."""
        magnitudes = [m.magnitude for m in self.modules if m.magnitude is not None]
        if not magnitudes:
            return None
        return min(float(m.min()) for m in magnitudes), max(float(m.max()) for m in magnitudes)

    @property
    def kind(self) -> str:
        """``additive`` or ``multiplicative``."""
        return self.modules[0].kind

    @property
    def ranks(self) -> dict[int, int]:
        """Stored rank → how many modules have it."""
        counts: dict[int, int] = {}
        for module in self.modules:
            counts[module.stored_rank] = counts.get(module.stored_rank, 0) + 1
        return dict(sorted(counts.items()))
