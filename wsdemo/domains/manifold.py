"""Where fits of a second generation start: at the point of its manifold that the encoder names."""

from functools import cache
from pathlib import Path

from wsdemo.domains.domain import Domain
from wsdemo.fields.manifold_start import ManifoldStart, load_manifold_start


@cache
def manifold_start(path: Path, base_hash: str) -> ManifoldStart:
    """Manifold and encoder, loaded once a process."""
    return load_manifold_start(path, base_hash)


def on_manifold(domain: Domain) -> ManifoldStart:
    """Where fits on the manifold's base start."""
    return manifold_start(domain.folder / f"{domain.name}.safetensors", domain.base[1]["hash"])
