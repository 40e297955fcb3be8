"""Repositories of the Hugging Face Hub: downloaded once, then read from the cache."""

import logging
import re
from pathlib import Path
from typing import Any

from .errors import explain_hub_error, explain_offline, in_one_line

logger = logging.getLogger(__name__)
# Keyword arguments of from_pretrained that concern the Hub and not the model.
HUB_KEYWORDS = ("revision", "cache_dir", "token", "local_files_only", "force_download")
FILES = ("*.json", "*.safetensors", "*.md", "LICENSE*", "NOTICE*")
COMMIT = re.compile("[0-9a-f]{40}")


def fetch_repository(  # noqa: PLR0913 - the Hub's own options
    name: str,
    *,
    revision: str | None = None,
    cache_dir: str | Path | None = None,
    token: str | bool | None = None,
    local_files_only: bool = False,
    force_download: bool = False,
    subfolder: str = "",
) -> Path:
    """Folder of a Hub repository in the cache, for which only new files are downloaded.

    A commit in the cache is read without any connection. For a branch or tag, one request asks for its current commit;
    if the Hub does not answer, the copy in the cache is used and a warning is logged.

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
        Make no connection, as with the environment variable ``HF_HUB_OFFLINE=1``.
    force_download : bool, default False
        Download all files again, to replace a damaged copy.
    subfolder : str
        Folder of the checkpoint in the repository.

    Returns
    -------
    Path
        Without `subfolder`, its last part is the commit.

    Raises
    ------
    OSError
        If the Hub does not give the repository and the cache does not hold all of it; the message says why.
    """
    from huggingface_hub import constants

    options = dict(repo_id=name, revision=revision, cache_dir=cache_dir, token=token, allow_patterns=list(FILES))
    is_offline = bool(local_files_only or constants.HF_HUB_OFFLINE)
    try:
        cached, is_incomplete = _find_cached(options, subfolder)
        use_cached = is_offline or (cached and COMMIT.fullmatch(revision or "")) and not force_download
        folder = cached if use_cached else _download(options, cached, force_download)
    except Exception as error:  # the Hub client raises a family of unrelated classes
        raise OSError(explain_hub_error(error, name, revision=revision)) from error
    if folder is None:
        place = cache_dir or constants.HF_HUB_CACHE
        raise OSError(explain_offline(name, revision, place, is_incomplete=is_incomplete))
    folder = folder / subfolder
    if not (folder / "config.json").is_file():
        raise OSError(f"expected a checkpoint in the Hub repository {name}, found no config.json: correct the name.")
    return folder


def _find_cached(options: dict[str, Any], subfolder: str) -> tuple[Path | None, bool]:
    """Folder of a complete copy in the cache, or None; and whether there is an incomplete copy."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(**options, local_files_only=True))
    except LocalEntryNotFoundError as error:
        return None, "incomplete" in str(error)
    # Old versions of the client do not notice that a download broke off.
    inner = folder / subfolder
    has_weights = any(inner.glob("model*.safetensors"))
    return (folder, False) if has_weights and (inner / "config.json").is_file() else (None, True)


def _download(options: dict[str, Any], cached: Path | None, force_download: bool) -> Path:
    """Snapshot of a repository; the cached one if it is current or if the Hub does not answer."""
    from huggingface_hub import HfApi, constants, snapshot_download
    from huggingface_hub.errors import LocalTokenNotFoundError, RevisionNotFoundError

    name, limit_s = options["repo_id"], constants.HF_HUB_ETAG_TIMEOUT
    if force_download:
        return Path(snapshot_download(**options, force_download=True))
    try:
        # snapshot_download asks the same without a time limit: behind some firewalls that takes minutes.
        info = HfApi(token=options["token"]).model_info(name, revision=options["revision"], timeout=limit_s)
    except Exception as error:
        if cached is None or isinstance(error, LocalTokenNotFoundError | RevisionNotFoundError):
            raise
        logger.warning("%s: the copy in the cache is used, the Hub did not answer: %s", name, in_one_line(error))
        return cached
    return cached if cached and cached.name == info.sha else Path(snapshot_download(**options))


def commit_of(folder: str | Path) -> str | None:
    """Commit of a folder in the Hub's cache.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    str or None
        None for any other folder.
    """
    root = snapshot_of(folder)
    return None if root is None else root.name


def snapshot_of(folder: str | Path) -> Path | None:
    """The folder of a commit in the Hub's cache that is, or contains, a folder.

    Parameters
    ----------
    folder : str or Path

    Returns
    -------
    Path or None
        None for a folder elsewhere.
    """
    around = (Path(folder), *Path(folder).parents)
    return next((each for each in around if each.parent.name == "snapshots" and COMMIT.fullmatch(each.name)), None)
