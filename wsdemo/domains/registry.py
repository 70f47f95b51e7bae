"""The domains that there are."""

from collections.abc import Iterable
from pathlib import Path

from wsdemo.domains.domain import Domain
from wsdemo.domains.faces import FACES, FACES_MANIFOLD
from wsdemo.domains.shapes import AIRPLANE, SHAPES, SHAPES_MANIFOLD
from wsdemo.errors import WsdemoError

DOMAINS = {
    domain.name: domain for domain in (FACES, FACES_MANIFOLD, SHAPES, SHAPES_MANIFOLD, AIRPLANE)
}
"""By name; of several that read a file, the first is meant."""


def either(names: Iterable[str]) -> str:
    """Names as a choice in words: ``a, b or c``."""
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else last


def domain_named(name: str) -> Domain:
    """A domain.

    Raises:
        WsdemoError: There is none of that name.
    """
    if name not in DOMAINS:
        raise WsdemoError(
            "Unknown domain", f"Found {name[:40]!r}; expected {either(DOMAINS)}.", "Choose one."
        )
    return DOMAINS[name]


def domain_of_base(base: str) -> Domain:
    """The domain whose base has a name.

    Raises:
        WsdemoError: There is none.
    """
    for domain in DOMAINS.values():
        if domain.base_name == base:
            return domain
    known = ", ".join(domain.base_name for domain in DOMAINS.values())
    raise WsdemoError(
        "Unknown base",
        f"The instance was fitted on {base[:40]!r}; this app ships {known}.",
        "Use the wsdemo version that wrote the file.",
    )


def domain_reading(path: Path, among: Iterable[Domain]) -> Domain:
    """The first domain that reads a file, by its name; else the one that knows what it is and will
    say why not, or the first."""
    candidates = list(among)
    ending = path.suffix.lower()
    readers = [d for d in candidates if ending in d.reads]
    readers += [d for d in candidates if d.knows(path.name)]
    return (readers or candidates)[0]


def families() -> list[list[Domain]]:
    """The domains, those of one kind together."""
    kinds = dict.fromkeys(domain.kind for domain in DOMAINS.values())
    return [[d for d in DOMAINS.values() if d.kind == kind] for kind in kinds]


def set_title(name: str) -> str:
    """What a domain's instances are called, with its title where another has the same word."""
    domain = DOMAINS[name]
    alike = [one for one in DOMAINS.values() if one.many == domain.many and one.mapped is not None]
    return f"{domain.many}, {domain.title.lower()}" if len(alike) > 1 else domain.many


def mapped_names() -> list[str]:
    """The domains that have a map."""
    return [domain.name for domain in DOMAINS.values() if domain.mapped is not None]
