"""The checkpoints' source outside a clone: a repository of the Hub, which the user names.

WSDEMO_CHECKPOINTS_REPO is ``owner/name[@revision][:folder]``. A checkpoint is fetched once, by its
name, and is kept only if it has the hash that the Hub states.
"""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from wsdemo.checkpoints import fetch_from
from wsdemo.errors import WsdemoError
from wsdemo.files import whole
from wsdemo.hub.reference import Reference, parse_reference

REPOSITORY = "WSDEMO_CHECKPOINTS_REPO"
"""The variable that names it; without, nothing is asked of the Hub."""


class HubSource:
    """The ``*.safetensors`` of a repository's root, or of one of its folders."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.folder = (reference.path or "").strip("/")
        self._names: tuple[str, ...] | None = None

    def _text(self, name: str) -> str:
        """The reference to one checkpoint."""
        revision = f"@{self.reference.revision}" if self.reference.revision else ""
        folder = f"{self.folder}/" if self.folder else ""
        return f"{self.reference.repo}{revision}:{folder}{name}"

    def names(self) -> Sequence[str]:
        """File names of the checkpoints; the Hub is asked once."""
        if self._names is None:
            from wsdemo.hub import client  # huggingface_hub takes a second to import

            whole = Reference(self.reference.repo, self.reference.revision)
            candidates = client.resolve(whole, client.own_token()).candidates
            split = [c.path.rpartition("/") for c in candidates]
            self._names = tuple(name for place, _, name in split if place == self.folder)
        return self._names

    def fetch(self, name: str, path: Path) -> None:
        """Downloads a checkpoint to a path.

        Raises:
            WsdemoError: The Hub has none of that name, does not answer, states no hash, or
                another than the file has.
        """
        from wsdemo.hub import client

        print(f"fetching {self._text(name)}", file=sys.stderr, flush=True)
        copy, repository, candidate = client.fetch_file(self._text(name), client.own_token())
        if candidate.sha256 is None and not repository.is_offline:
            raise WsdemoError(
                "No hash to compare with",
                f"The Hub states none of {self._text(name)}, so it cannot be checked.",
                "Keep the checkpoints in Git LFS, as the Hub does by itself with safetensors.",
            )
        with whole(path) as out, copy.open("rb") as body:
            shutil.copyfileobj(body, out)


def use_named_repository(environment: Mapping[str, str] = os.environ) -> None:
    """Fetches missing checkpoints from WSDEMO_CHECKPOINTS_REPO from now on, if that is set.

    Raises:
        WsdemoError: It is no reference to the Hub.
    """
    text = environment.get(REPOSITORY)
    fetch_from(*([HubSource(parse_reference(text))] if text else []))
