"""Every way in which the Hub fails, as a sentence with a remedy."""

from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from wsdemo import limits
from wsdemo.errors import WsdemoError
from wsdemo.hub.downloads import offline_error


@contextmanager
def explained(repo: str, path: str = "") -> Iterator[None]:
    """Turns every way in which the Hub fails into a sentence with a remedy."""
    what = f"{repo}:{path}" if path else repo
    try:
        yield
    except GatedRepoError as error:
        raise WsdemoError(
            "Access must be granted first",
            f"{repo} is gated: its owner asks visitors to accept terms.",
            "Accept them on its page, then sign in, or give a token of your account.",
        ) from error
    except RevisionNotFoundError as error:
        raise WsdemoError(
            "No such revision", f"{repo} has no such branch, tag or commit.", "Leave out @revision."
        ) from error
    except EntryNotFoundError as error:
        raise WsdemoError(
            "No such file", f"{what} does not exist.", "Leave out the path to choose from a list."
        ) from error
    except RepositoryNotFoundError as error:
        raise WsdemoError(
            "No such repository, or a private one",
            f"{repo} is not visible.",
            "Check the spelling; for a private one sign in, or give a token that may read it.",
        ) from error
    except OfflineModeIsEnabled as error:
        raise offline_error(what) from error
    except HFValidationError as error:
        raise WsdemoError(
            "Not a repository's name", f"{repo[:80]} is no valid name.", "Expected owner/name."
        ) from error
    except HfHubHTTPError as error:
        raise _by_status(error.response.status_code, what) from error
    except httpx2.TimeoutException as error:
        raise WsdemoError(
            "The Hub does not answer",
            f"No answer about {what} within {limits.HUB_SECONDS:.0f} s.",
            "Try again later, or download the file and drop it.",
        ) from error
    except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
        raise WsdemoError(
            "No connection to the Hub",
            f"{what} could not be fetched ({type(error).__name__}).",
            "Check the connection, or download the file and drop it.",
        ) from error


def _by_status(status: int, what: str) -> WsdemoError:
    known = {
        401: ("Token needed", "it is private, or the token is wrong", "Give a valid token."),
        403: ("Not allowed", "the token may not read it", "Use a token with read access."),
        404: ("Not found", "it is not there, or private", "Check the spelling, or give a token."),
        429: ("Too many requests", "the Hub asks to slow down", "Wait a minute, then try again."),
    }
    title, why, hint = known.get(
        status,
        ("The Hub has a problem", f"it answered with status {status}", "Try again later."),
    )
    return WsdemoError(title, f"{what}: {why}.", hint)
