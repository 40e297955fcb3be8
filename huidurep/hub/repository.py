"""Repositories of the Hub: fetched once, read from the cache ever after."""

import logging
from pathlib import Path

from .errors import explain_reading, in_one_line

logger = logging.getLogger(__name__)
# Options of loading that concern the Hub and not the model.
HUB_KEYWORDS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
# What is fetched of a repository.
FILES = ("*.json", "*.safetensors", "*.md", "LICENSE*", "NOTICE*")
COMMIT_LENGTH = 40


def fetch_repository(  # noqa: PLR0913 - the Hub's own options
    name, *, revision=None, cache_dir=None, token=None, local_files_only=False, force_download=False
):
    """Folder of a Hub repository in the cache, of which only what is new is downloaded.

    A commit that is in the cache is read without any connection. For a branch or tag, one small request asks where it
    stands now; where that fails, the copy in the cache serves, and the log says so.

    Parameters
    ----------
    name : str
        "owner/name".
    revision : str, optional
        Branch, tag or commit; by default "main".
    cache_dir : str or Path, optional
        By default that of ``huggingface_hub`` (``HF_HUB_CACHE``).
    token : str or bool, optional
        By default ``HF_TOKEN``, or what ``hf auth login`` stored.
    local_files_only : bool, default False
        Connect to nothing, as with the environment variable ``HF_HUB_OFFLINE=1``.
    force_download : bool, default False
        Fetch all files again, for a copy that is damaged.

    Returns
    -------
    Path
        Its last part is the commit.

    Raises
    ------
    OSError
        If the repository is neither given by the Hub nor whole in the cache; the message says why.
    """
    from huggingface_hub import constants

    is_offline = local_files_only or constants.HF_HUB_OFFLINE
    options = dict(repo_id=name, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=list(FILES))
    try:
        folder = _fetch(options, is_offline=is_offline, force_download=force_download)
    except Exception as error:  # the Hub client raises a family of unrelated classes
        cache_dir = cache_dir or constants.HF_HUB_CACHE
        raise OSError(explain_reading(error, name, revision, cache_dir=cache_dir, is_offline=is_offline)) from error
    if not (folder / "config.json").is_file():
        raise OSError(
            f"expected a checkpoint in the Hub repository {name}, found no config.json there: correct the name."
        )
    return folder


def _fetch(options, *, is_offline, force_download):
    from huggingface_hub import snapshot_download

    if force_download:
        return Path(snapshot_download(**options, force_download=True))
    commit, problem = (None, None) if is_offline else _current_commit(options)
    cached, lack = _find_cached(options)
    if cached and problem:
        said = in_one_line(problem)
        logger.warning("%s: the copy in the cache is used, for the Hub did not answer: %s", options["repo_id"], said)
        return cached
    if cached and (is_offline or cached.name == commit):
        return cached
    if problem or is_offline:
        raise problem or lack
    return Path(snapshot_download(**options))


def _current_commit(options):
    """(commit of the revision, None), or (None, the error) where the Hub does not say but the cache may serve."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import HFValidationError, LocalTokenNotFoundError, RevisionNotFoundError

    if is_commit(options["revision"]):
        return options["revision"], None  # a commit never moves: there is nothing to ask
    try:
        # A firewall that swallows packets would hold up a request without a limit for minutes.
        api, limit_s = HfApi(token=options["token"]), constants.HF_HUB_ETAG_TIMEOUT
        info = api.model_info(options["repo_id"], revision=options["revision"], timeout=limit_s)
    except (HFValidationError, LocalTokenNotFoundError, RevisionNotFoundError):
        raise
    except Exception as error:  # of whichever HTTP library the client uses
        return None, error
    return info.sha, None


def _find_cached(options):
    """(folder, None) where the cache holds the whole of a repository, else (None, the error that says what lacks)."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(**options, local_files_only=True))
    except LocalEntryNotFoundError as error:
        return None, error
    # What broke off leaves a part, and not every version of the client notices.
    has_weights = any((folder / name).is_file() for name in ("model.safetensors", "model.safetensors.index.json"))
    if has_weights and (folder / "config.json").is_file():
        return folder, None
    return None, LocalEntryNotFoundError(f"{folder} is incomplete")


def is_commit(revision):
    """Whether a revision is a whole commit hash, which never moves.

    Parameters
    ----------
    revision : str or None

    Returns
    -------
    bool
    """
    return len(revision or "") == COMMIT_LENGTH and set(revision) <= set("0123456789abcdef")


def commit_of(folder):
    """The commit that a folder of the Hub's cache holds.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    str or None
        None for any other folder.
    """
    folder = Path(folder)
    return folder.name if folder.parent.name == "snapshots" and is_commit(folder.name) else None


def how_to_repair(folder):
    """What to do about a checkpoint folder whose files are damaged.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    str
    """
    if commit_of(folder):
        return "load it once with force_download=True, or run `huidurep download NAME --force`"
    return "download or copy the checkpoint again"
