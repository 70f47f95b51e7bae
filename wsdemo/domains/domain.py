"""What makes a kind of instance: a ``Domain`` of functions and values.

Whatever draws, fits, decodes, maps or trains takes one, and asks it where kinds differ. A new
domain is one file that builds a ``Domain``, and its line in registry.py.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL.Image import Image
from torch import Tensor

from wsdemo.checkpoints import DIRECTORY
from wsdemo.errors import WsdemoError
from wsdemo.fields.adapters import Adapter, AdapterConfig
from wsdemo.fields.base import FrozenBase
from wsdemo.fields.base_files import base_at
from wsdemo.fields.fit import FitConfig
from wsdemo.fields.instance import Instance
from wsdemo.limits import MAX_SAMPLES

Shown = Any
"""What an instance decodes to: a (3, H, W) uint8 picture, a Mesh."""
Start = Callable[[Adapter, Tensor], Tensor]
"""Maps what an encoder reads (n, channels, …) to the weights (n, D) that a fit starts from."""
Detail = Mapping[str, Any]
"""Values of a domain's ``detail`` options by name; those left out have their default."""


@dataclass(frozen=True)
class Option:
    """A choice that a domain offers: a flag of the command line and a control of the page.

    Attributes:
        name: The keyword that the domain's functions take.
        label: Of the control.
        default: Of the flag; None leaves it to the domain. Its type is the flag's: with True or
            False the flag stands alone.
        help: Of the flag.
        flag: Its name; default: ``--NAME``.
        shown: What the control shows first; default: ``default``.
        choices: What the control offers.
        bounds: Or its least and greatest value, and the step.
        is_of_fits: Whether the tab Fit offers it for the result of a fit.
        check: Refuses a value, before any work.
        is_of_page: Whether the page offers it too.
    """

    name: str
    label: str
    default: Any
    help: str
    flag: str = ""
    shown: Any = None
    choices: tuple[Any, ...] = ()
    bounds: tuple[float, float, float] | None = None
    is_of_fits: bool = False
    check: Callable[[Any], None] | None = None
    is_of_page: bool = True

    @property
    def flag_name(self) -> str:
        return self.flag or f"--{self.name}"

    @property
    def first(self) -> Any:
        """What the control shows first."""
        return self.default if self.shown is None else self.shown


@dataclass(frozen=True)
class Labels:
    """What the instances of a domain are told apart by.

    Attributes:
        one, many: What such a label is called: attribute, attributes.
        are_exclusive: Whether an instance has exactly one of them, as categories are.
        usual: The label that a map is coloured by at first, unless they are exclusive.
        words: Labels in words for people; others speak for themselves.
        no_choice: Why there is nothing to ask for, where the model knows no labels.
    """

    one: str = "attribute"
    many: str = "attributes"
    are_exclusive: bool = False
    usual: str = ""
    words: Mapping[str, str] = field(default_factory=dict)
    no_choice: str = "none"


@dataclass(frozen=True)
class Original:
    """What is fitted.

    Attributes:
        value: As the domain's functions take it.
        notes: How it was read, for people.
        facts: What its instance's file keeps of it: where a mesh stood.
    """

    value: Any
    notes: tuple[str, ...] = ()
    facts: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Signal:
    """An original as a field sees it.

    Attributes:
        points: (P, in_dim) float, in [-1, 1].
        targets: (1, P, out_dim) float, in [-1, 1].
        inputs: (1, channels, …) float, what the encoder reads.
    """

    points: Tensor
    targets: Tensor
    inputs: Tensor


@dataclass(frozen=True)
class FitOptions:
    """How an original is fitted; the defaults are the command line's."""

    representation: str = "mlora-asym"
    rank: int = 8
    seed: int = 0
    seconds: float = 5.0
    """Time of the whole fit, what is sampled of the original included; an MLP's shared start, made
    once a process, comes on top, and so does measuring the result."""
    steps: int | None = None
    """Steps to make instead, whatever their time: the same bytes every time."""
    target_psnr: float = float("inf")
    """PSNR in dB at which the fit ends, time left or not: of what is shown where the domain
    measures that, else of the field's values."""
    start: str = "spread"
    """mLoRA's start; ``carried`` shows more of a picture, and mixes with its like alone."""
    is_comparable: bool = False
    """Whether to fit as the training instances were, whatever the time: ``Domain.comparable``."""
    detail: Detail = field(default_factory=dict)
    """How the result is decoded; the weights are the same."""


@dataclass(frozen=True)
class Measure:
    """A number that a fit ends with: its key, its words, how it is written."""

    key: str
    label: str
    form: str


Measurer = Callable[[float, Shown], dict[str, float]]
"""Of a share and what is shown there → how far it is from both ends: to_first, to_second."""


@dataclass(frozen=True)
class Walking:
    """What is measured along the straight way between two instances.

    Attributes:
        between: (what the first shows, what the second shows) → what measures a step.
        loss: What ``to_first`` and ``to_second`` are, in words.
        nearness: What the curve shows, of a step's numbers.
        title: What that is, in words.
        ranks: Representation → rank (MLP: width) in which two are fitted anew and walked; none if
            that takes too long.
    """

    between: Callable[[Shown, Shown], Measurer]
    loss: str
    nearness: Callable[[Mapping[str, float]], float]
    title: str
    ranks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Mapped:
    """How a domain's map is drawn: how many points as pictures, of how many pixels a side."""

    landmarks: int
    pixels: int


@dataclass(frozen=True, eq=False)
class Domain:
    """A kind of instance.

    Attributes:
        name: Of its checkpoints: ``NAME-base``, ``NAME-encoder``, ``NAME-diffusion`` and so on.
        kind: What instance files call it. Domains of one kind share a tab.
        title: What one of several of a kind is called there.
        one, many: What its instances are called.
        original: What they are fitted to is called.
        holds: What a file of one holds, with an article.
        intro_sample, intro_fit: What the tabs say of it.
        reads, writes: Endings of the files of originals and of what instances decode to, the
            usual first.
        labels: What instances are told apart by.
        rates: Adam's peak learning rates, by representation or kind; of a start other than
            ``spread`` by "kind start", and without one that start is refused.
        fitting: How an original is fitted; rate, time and steps come from ``FitOptions``.
        comparable: How all training instances were fitted, if they were. What is fitted longer
            shows more, and lies outside of where map, predictors and diffusion model know their
            way.
        presets: Choices of the tab Fit.
        enough_steps: Steps of a fit, of which fewer hardly move the weights from their start.
        report_seconds: How often a fit shows what it has come to.
        measures: What a fit ends with, as ``measure`` and ``psnr`` name it.
        guidance, temperature: Of what is drawn, unless asked otherwise.
        is_drawn_first: Whether the tab Sample opens on it, and not on the first of its kind.
        start: Where mLoRA fits on its base start; default: what NAME-encoder proposes.
        most: Instances drawn at once.
        batch: Instances decoded at once.
        walking: What a walk measures.
        open: (domain, path, **framing) → original.
        signal: (original, cache folder) → what a field is fitted to.
        grid: domain → (P, in_dim) points that an MLP's shared start is fitted on.
        decode: (domain, instances on one adapter, **detail) → what each shows.
        picture: (shown, pixels a side) → a picture, all of one scale.
        measure: (reference, shown) → numbers by key.
        content: (shown, ending without dot, its instance) → bytes of a file.
        facts: (shown, its instance, detail, endings of its files) → what the command line says.
        losses: (shown, its instance, endings) → what such files cannot keep, for people.
        fit_facts: (path of the original, original, measured) → what it says of a fit besides.
        framing: What ``open`` takes besides.
        detail: What ``decode`` takes besides.
        quick: The detail of previews.
        reference: What a result is compared with; default: the original's value.
        psnr: (original's value, shown) → PSNR in dB; default: of the field's values.
        headline: Measures of a finished fit → the words for it.
        side: Shown → pixels a side of its own, where it has them.
        portrait: Like ``picture``, but filling the frame.
        look: original → what is shown of it; default: its value.
        overlay: (shown, reference, pixels) → a picture of where they differ, its label.
        turntable: Shown → a picture from all around.
        viewer: Ending of the file that a three-dimensional viewer opens.
        features: Shown → (n, d) features in which identity is measured.
        render: (path, out, options) → facts: a picture of an original's file.
        render_options: What ``render`` takes.
        drawn_facts: Temperature → what the file of a drawn instance keeps.
        mixes: Which of those lie between two instances where their weights do.
        plain_facts: What every file keeps.
        fallback_size: What files state as size, where the base has none.
        mapped: How its map is drawn, if it has one.
        endpoints: Names of the page's endpoints where they are not the usual ones; "": none.
        knows: File name → whether it is an original of this kind, of a format read here or not.
        folder: Where its checkpoints lie.
    """

    name: str
    kind: str
    title: str
    one: str
    many: str
    original: str
    holds: str
    intro_sample: str
    intro_fit: str
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    labels: Labels
    rates: Mapping[str, float]
    fitting: FitConfig
    comparable: FitConfig | None
    presets: Mapping[str, FitOptions]
    report_seconds: float
    measures: tuple[Measure, ...]
    walking: Walking
    open: Callable[..., Original]
    signal: Callable[[Original, Path | None], Signal]
    grid: Callable[["Domain"], Tensor]
    decode: Callable[..., list[Shown]]
    picture: Callable[[Shown, int], Image]
    measure: Callable[[Any, Shown], dict[str, float]]
    content: Callable[[Shown, str, Instance | None], bytes]
    facts: Callable[[Shown, Instance, Detail, Sequence[str]], dict[str, Any]]
    headline: Callable[[Mapping[str, float]], str]
    enough_steps: int = 50
    guidance: float = 2.0
    temperature: float = 1.0
    is_drawn_first: bool = False
    start: Callable[["Domain"], Start] | None = None
    most: int = MAX_SAMPLES
    batch: int = 128
    framing: tuple[Option, ...] = ()
    detail: tuple[Option, ...] = ()
    quick: Detail = field(default_factory=dict)
    losses: Callable[[Shown, Instance, Sequence[str]], list[str]] = lambda *_: []
    fit_facts: Callable[[Path, Original, Mapping[str, float]], dict[str, Any]] = lambda *_: {}
    reference: Callable[[Original], Any] = lambda original: original.value
    psnr: Callable[[Any, Shown], float] | None = None
    side: Callable[[Shown], int] = lambda _: 320
    portrait: Callable[[Shown, int], Image] | None = None
    look: Callable[[Original], Shown] = lambda original: original.value
    overlay: tuple[Callable[[Shown, Any, int], Image], str] | None = None
    turntable: Callable[[Shown], Image] | None = None
    viewer: str = ""
    features: Callable[[Sequence[Shown]], Tensor] | None = None
    render: Callable[[Path, Path, Detail], dict[str, Any]] | None = None
    render_options: tuple[Option, ...] = ()
    drawn_facts: Callable[[float], Mapping[str, float]] = lambda _: {}
    mixes: tuple[str, ...] = ()
    plain_facts: Mapping[str, float] = field(default_factory=dict)
    fallback_size: int = 1
    mapped: Mapped | None = None
    endpoints: Mapping[str, str] = field(default_factory=dict)
    knows: Callable[[str], bool] = lambda _: False
    folder: Path = DIRECTORY

    @property
    def page_framing(self) -> tuple[Option, ...]:
        """What the page offers of ``framing``."""
        return tuple(option for option in self.framing if option.is_of_page)

    def checkpoint(self, part: str) -> Path:
        """The file of its base, encoder, diffusion, neighbours, examples or map."""
        return self.folder / f"{self.name}-{part}.safetensors"

    @property
    def base_name(self) -> str:
        """What instances call the base."""
        return f"{self.name}-base"

    @property
    def base(self) -> tuple[FrozenBase, dict[str, Any]]:
        """The base and its metadata, loaded once a process."""
        return base_at(self.checkpoint("base"))

    @property
    def size(self) -> int:
        """Pixels a side that the base was trained on, where it was trained on pixels."""
        return int(self.base[1]["size"]) or self.fallback_size

    def rate(self, config: AdapterConfig) -> float:
        """Adam's peak learning rate.

        Raises:
            WsdemoError: None is known for the start.
        """
        if config.kind == "mlora" and config.start != "spread":
            key = f"{config.kind} {config.start}"
            if key not in self.rates:
                raise WsdemoError(
                    "Unknown start",
                    f"{self.many.capitalize()} are not fitted from the start {config.start}.",
                    "Use --start spread.",
                )
            return self.rates[key]
        return self.rates.get(config.representation, self.rates[config.kind])

    def chosen(self, options: Sequence[Option], given: Mapping[str, Any]) -> dict[str, Any]:
        """Values of some of its options by name, the defaults for those not given.

        Raises:
            WsdemoError: A value is out of range.
        """
        values = {o.name: o.default for o in options} | {
            name: value for name, value in given.items() if value is not None
        }
        for option in options:
            if option.check is not None and values[option.name] is not None:
                option.check(values[option.name])
        return {name: value for name, value in values.items() if value is not None}
