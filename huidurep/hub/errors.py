"""What went wrong with the Hub, in one sentence: expected, found, remedy."""

RATE_LIMITED, SERVER_ERROR = 429, 500
UNAUTHORIZED, FORBIDDEN = 401, 403
NO_RIGHTS = (UNAUTHORIZED, FORBIDDEN)
WRONG_TOKEN = "Invalid credentials in Authorization header"
NETWORK = ("http", "requests", "urllib3", "ssl", "socket")


def explain_reading(error, name, revision, *, cache_dir, is_offline):
    """Say why a repository could not be read.

    Parameters
    ----------
    error : Exception
        Of ``huggingface_hub`` or of what it uses.
    name : str
        "owner/name".
    revision : str or None
    cache_dir : str or Path
        Where copies lie.
    is_offline : bool
        Whether connections were forbidden.

    Returns
    -------
    str
    """
    from huggingface_hub import constants, errors

    cause, page = _cause(error), f"{constants.ENDPOINT}/{name}"
    elsewhere = f"run `huidurep download {name} --output FOLDER` where it works and load FOLDER"
    if is_offline and isinstance(error, errors.LocalEntryNotFoundError):
        part = "only a part of it" if "incomplete" in str(error) else "none"
        return (
            f"expected the Hub repository {name} ({revision or 'main'}) in the cache {cache_dir}, found {part}, and "
            f"connections are off (HF_HUB_OFFLINE or local_files_only): allow them once, or {elsewhere}."
        )
    if isinstance(cause, errors.GatedRepoError):
        return (
            f"expected to be allowed to read the Hub repository {name}, found that its owners give access on request: "
            f"ask for it at {page}, then pass token= or set HF_TOKEN."
        )
    if isinstance(cause, errors.RevisionNotFoundError):
        return (
            f"expected the revision {revision!r} of the Hub repository {name}, found no such branch, tag or commit: "
            f"choose one of {page}/commits."
        )
    if _is_hidden(cause):
        from .embedded import list_checkpoints

        return (
            f"expected a local folder, one of the embedded checkpoints {sorted(list_checkpoints())} or a Hub "
            f"repository, found {name!r}, which the Hub does not have or does not show you: correct the name or the "
            "path, or, if it is private, pass token= or set HF_TOKEN."
        )
    if _status(cause) in NO_RIGHTS:
        return (
            f"expected to be allowed to read the Hub repository {name}, found {_answer(cause)}: make a token with "
            f"read access at {constants.ENDPOINT}/settings/tokens, then pass token= or set HF_TOKEN."
        )
    return _explain_connection(error, f"the Hub to give {name}", f"try again, or {elsewhere}")


def explain_writing(error, name):
    """Say why a checkpoint could not be published.

    Parameters
    ----------
    error : Exception
        Of ``huggingface_hub`` or of what it uses.
    name : str
        "owner/name".

    Returns
    -------
    str
    """
    from huggingface_hub import constants, errors

    cause = _cause(error)
    if isinstance(cause, errors.RepositoryNotFoundError) or _status(cause) in NO_RIGHTS:
        return (
            f"expected a token that may write to the Hub repository {name}, found {_answer(cause)}: make one at "
            f"{constants.ENDPOINT}/settings/tokens, then pass token= or set HF_TOKEN."
        )
    if isinstance(cause, errors.OfflineModeIsEnabled):
        return f"expected a connection, to publish {name}, found HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE: unset it."
    return _explain_connection(error, f"the Hub to take {name}", "publish it again")


def in_one_line(error):
    """The message of an error without line breaks.

    Parameters
    ----------
    error : Exception

    Returns
    -------
    str
    """
    return " ".join(str(error).split()) or type(error).__name__


def _explain_connection(error, expected, remedy):
    from huggingface_hub import constants, errors

    cause = _cause(error)
    status, said = _status(cause), in_one_line(cause)
    if isinstance(cause, errors.HFValidationError):
        return f"expected {expected}, found a name that cannot be ({said}): correct it."
    if isinstance(cause, errors.LocalTokenNotFoundError):
        return f"expected {expected}, found no token: run `hf auth login`, set HF_TOKEN, or pass the token itself."
    if status == RATE_LIMITED:
        return (
            f"expected {expected}, found that it has had too many requests from here ({said}): wait some minutes, or "
            "log in with `hf auth login`, which allows more."
        )
    # A file that is listed and then not found is the server's fault, too.
    if status is not None and (status >= SERVER_ERROR or isinstance(cause, errors.EntryNotFoundError)):
        return f"expected {expected}, found its server failing ({_answer(cause)}): wait, then {remedy}."
    # The client comes with httpx, httpx2 or requests, by its version; their errors have no common class.
    is_network = isinstance(cause, ConnectionError | TimeoutError) or type(cause).__module__.startswith(NETWORK)
    advice = "check the network, a proxy (HTTPS_PROXY) and HF_ENDPOINT" if is_network else "mend that"
    return (
        f"expected {expected} at {constants.ENDPOINT}, found {type(cause).__name__} ({said}): {advice}, then {remedy}."
    )


def _cause(error):
    """The Hub's own answer behind an error, else what it began with."""
    from huggingface_hub.errors import HfHubHTTPError

    chain = [error]
    while chain[-1].__cause__ is not None and not isinstance(chain[-1], HfHubHTTPError):
        chain.append(chain[-1].__cause__)
    return chain[-1]


def _is_hidden(error):
    """Whether the Hub says that there is no such repository, which is also what it says of others' private ones."""
    from huggingface_hub.errors import RepositoryNotFoundError

    said = error.response.headers.get("X-Error-Message") if _status(error) == UNAUTHORIZED else WRONG_TOKEN
    # The client makes this of a bare 401 only where the endpoint is https.
    return isinstance(error, RepositoryNotFoundError) or said != WRONG_TOKEN


def _answer(error):
    """What the server answered, without the addresses that the client adds."""
    said = getattr(error, "server_message", None)
    return f"{_status(error)} {error.response.reason_phrase}{f': {said}' if said else ''}"


def _status(error):
    return getattr(getattr(error, "response", None), "status_code", None)
