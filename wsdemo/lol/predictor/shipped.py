"""The predictors that ship, and others that a visitor brings: a file, a folder, a Hub name."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from wsdemo.checkpoints import DIRECTORY, checkpoint_names, load_checkpoint
from wsdemo.errors import WsdemoError
from wsdemo.hub.reference import looks_like_reference
from wsdemo.lol.predictor.files import check_predictor_size, load_predictor
from wsdemo.lol.predictor.predictor import Predictor
from wsdemo.safetensors_header import Header


@cache
def shipped_predictors() -> tuple[Predictor, ...]:
    """Every ``lol-*.safetensors`` among the checkpoints.

    Raises:
        WsdemoError: There are no checkpoints at all, here or at their source.
    """
    if not checkpoint_names():
        load_checkpoint(DIRECTORY / "lol-face-fields.safetensors")  # says what is missing, and why
    return tuple(load_predictor(DIRECTORY / name) for name in checkpoint_names("lol-"))


def find_predictor(text: str, token: str | None = None) -> Predictor:
    """A predictor from a file or folder that ``lol train`` wrote, or from the Hub.

    Args:
        text: A path, or ``owner/name[@revision][:path]``.
        token: Of the visitor, for a private repository.

    Raises:
        WsdemoError: It is neither, it is no predictor, or the Hub refuses.
    """
    if Path(text).exists():
        return load_predictor(Path(text))
    return load_predictor(hub_predictor(text, token))


def hub_predictor(text: str, token: str | None = None) -> Path:
    """The file of a predictor from the Hub, whatever files of that name this machine has.

    Raises:
        WsdemoError: As ``find_predictor``; also one that is too large, before it is downloaded.
    """
    if not looks_like_reference(text):
        raise WsdemoError(
            "Predictor not found",
            f"{text[:200]!r} is nothing that can be opened here, and no name on the Hub.",
            "Give what wsdemo lol train wrote, or owner/name.",
        )
    from wsdemo.hub import client as hub  # huggingface_hub takes a second to import

    def judge(header: Header) -> None:
        check_predictor_size(text, max((stop for _, stop in header.places.values()), default=0))

    return hub.fetch_file(text, token, judge)[0]


def known_predictors(wished: Sequence[str] = (), token: str | None = None) -> list[Predictor]:
    """Predictors of ``find_predictor``, before the shipped ones, which may then be missing."""
    others = [find_predictor(text, token) for text in wished]
    return others if others and not checkpoint_names() else [*others, *shipped_predictors()]
