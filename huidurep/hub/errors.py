"""Messages for the errors of huggingface_hub: what was expected, what was found, what to do."""

import re
from pathlib import Path

TOKEN = "pass token= or set HF_TOKEN"
# what precedes a secret is kept: tokens of the Hub, user:password@ in URLs, parameters of signed URLs, headers, options
SECRETS = re.compile(
    r"(\b(?-i:hf_))(?!transfer\b|xet\b)[A-Za-z0-9]{5,}"
    r"|(\b[a-z][a-z0-9+.-]*:/{1,2})[^\s/@]+@"
    r"|([?&][^=&\s]*(?:token|secret|signature|credential|password|key)[^=&\s]*=)[^&\s'\"]+"
    r"|(\bbearer |--token[ =])\S+",
    re.IGNORECASE,
)


def explain_hub_error(error: Exception, name: str, *, action: str = "read", revision: str | None = None) -> str:
    """Say in one sentence why a repository could not be read or published.

    Parameters
    ----------
    error : Exception
        Of huggingface_hub, or of the HTTP library that it uses.
    name : str
        "owner/name".
    action : {"read", "publish"}
    revision : str, optional

    Returns
    -------
    str
    """
    from huggingface_hub import constants

    cause = _cause(error)
    message = getattr(cause, "server_message", None) or in_one_line(cause)
    status = getattr(getattr(cause, "response", None), "status_code", None)
    found = f"{status}: {message}" if status else f"{type(cause).__name__}: {message}"
    where = f" at revision {revision!r}" if revision else ""
    remedy = _remedy(cause, status, f"{constants.ENDPOINT}/{name}", action)
    return without_secrets(f"expected to {action} the Hub repository {name}{where}, found {found}: {remedy}.")


def explain_offline(name: str, revision: str | None, cache_dir: str | Path, *, is_incomplete: bool) -> str:
    """Say in one sentence that the cache does not hold a repository, or only a part, while connections are off.

    Parameters
    ----------
    name : str
        "owner/name".
    revision : str or None
    cache_dir : str or Path
    is_incomplete : bool
        Whether the cache holds a part.

    Returns
    -------
    str
    """
    found = "only a part of it" if is_incomplete else "none"
    return (
        f"expected the Hub repository {name} ({revision or 'main'}) in the cache {cache_dir}, found {found}, and "
        "connections are off (HF_HUB_OFFLINE or local_files_only): allow them once, or run "
        f"`huidurep download {name} --output FOLDER` where there is a network and load FOLDER."
    )


def in_one_line(error: BaseException) -> str:
    """Message of an error without line breaks and secrets.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
    """
    return without_secrets(" ".join(str(error).split())) or type(error).__name__


def without_secrets(text: str) -> str:
    """A text without access tokens and passwords, such as those in a URL: users send messages to others.

    Parameters
    ----------
    text : str

    Returns
    -------
    str
        With *** in their place.
    """

    def masked(found: re.Match) -> str:
        start = next(part for part in found.groups() if part)
        return f"{start}***{'@' if found.group(2) else ''}"

    return SECRETS.sub(masked, text)


def _remedy(cause: BaseException, status: int | None, page: str, action: str) -> str:
    from huggingface_hub import constants, errors

    if isinstance(cause, errors.GatedRepoError):
        return f"ask its owners for access on {page}, then {TOKEN}"
    if isinstance(cause, errors.RevisionNotFoundError):
        return f"choose a branch, tag or commit of {page}/commits"
    if isinstance(cause, errors.HFValidationError):
        return "correct the name"
    if isinstance(cause, errors.LocalTokenNotFoundError):
        return f"run `hf auth login`, or {TOKEN}"
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return "unset HF_HUB_OFFLINE and TRANSFORMERS_OFFLINE"
    # The Hub does not say whether a private repository exists to those who may not read it.
    if isinstance(cause, errors.RepositoryNotFoundError) or status in (401, 403):
        access = "write" if action == "publish" else "read"
        token = f"a token with {access} access ({constants.ENDPOINT}/settings/tokens)"
        return f"correct the name, or, if the repository is private or yours, {TOKEN} to {token}"
    if status == 429:
        return "wait some minutes, or log in with `hf auth login`, which allows more requests"
    if status is not None:
        return "the server fails: wait, then try again"
    return "check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT, then try again"


def _cause(error: BaseException) -> BaseException:
    """First error of the Hub in the chain of causes, else the original cause."""
    from huggingface_hub.errors import HfHubHTTPError

    while error.__cause__ is not None and not isinstance(error, HfHubHTTPError):
        error = error.__cause__
    return error
