"""The one error that wsdemo raises on purpose."""


class WsdemoError(Exception):
    """A request that wsdemo refuses, told so that a person can act on it.

    Args:
        title: What went wrong, in a few words.
        message: What was found and what was expected.
        hint: What to do about it.
    """

    def __init__(self, title: str, message: str, hint: str = "") -> None:
        super().__init__(f"{title}: {message}")
        self.title = title
        self.message = message
        self.hint = hint

    def __reduce__(self) -> tuple[type["WsdemoError"], tuple[str, str, str]]:
        """So that it crosses processes whole."""
        return WsdemoError, (self.title, self.message, self.hint)

    def as_dict(self) -> dict[str, str]:
        """Returns the three texts under the keys of the command line's JSON."""
        return {"title": self.title, "message": self.message, "hint": self.hint}


def mismatch(found: str, again: str = "train them again") -> WsdemoError:
    """Two checkpoints that were not made for each other, and what would make them so."""
    return WsdemoError(
        "Checkpoints do not match", found, f"Take both from the same revision, or {again}."
    )


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Raises WsdemoError unless low ≤ value ≤ high."""
    if not low <= value <= high:
        raise WsdemoError(
            "Value out of range",
            f"{name} is {value:g}; expected {low:g} to {high:g}.",
            f"Choose a {name} in that range.",
        )


def refuse_lack_of_memory(error: BaseException) -> None:
    """Says that memory is lacking where that is what an error means.

    torch raises a RuntimeError for it, as it does for shapes that do not fit.

    Raises:
        WsdemoError: It is what it means.
    """
    texts = ("allocate memory", "not enough memory", "out of memory", "bad alloc", "bad_alloc")
    if isinstance(error, MemoryError) or any(text in str(error).lower() for text in texts):
        raise WsdemoError(
            "Not enough memory",
            f"The machine has less memory left than this takes ({str(error)[:160]}).",
            "Try again when it is less busy, or give a smaller file.",
        ) from error
