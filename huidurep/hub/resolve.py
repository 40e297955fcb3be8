"""From the name of a checkpoint to its folder."""

import logging
from pathlib import Path
from typing import Any

from .embedded import list_checkpoints
from .errors import without_secrets
from .repository import commit_of, fetch_repository

logger = logging.getLogger(__name__)


def resolve_checkpoint(name_or_path: str | Path, *, subfolder: str = "", **hub_options: Any) -> Path:
    """Find the folder of a checkpoint: a local folder, else an embedded checkpoint, else a Hub repository.

    The log says which. A local folder without config.json does not hide an embedded checkpoint of the same name.

    Parameters
    ----------
    name_or_path : str or Path
        A Path is never a Hub repository.
    subfolder : str
        Folder of the checkpoint in the local folder or repository.
    **hub_options
        ``revision``, ``cache_dir``, ``token``, ``local_files_only``, ``force_download`` of
        :func:`huidurep.hub.repository.fetch_repository`.

    Returns
    -------
    Path

    Raises
    ------
    OSError
        If there is no such checkpoint, or the Hub does not give it; the message says why.
    TypeError
        Neither text nor a path.
    """
    if not isinstance(name_or_path, str | Path):
        raise TypeError(
            f"expected the name or the folder of a checkpoint, found {name_or_path!r}: name one, such as 'tetrode'."
        )
    folder, name, embedded = Path(name_or_path).expanduser(), str(name_or_path), list_checkpoints()
    if not name.strip():
        raise OSError("expected the name or the folder of a checkpoint, found nothing: name one, such as 'tetrode'.")
    is_folder = folder.is_dir() and ((folder / subfolder / "config.json").is_file() or name not in embedded)
    if is_folder or name in embedded:
        place = f"local folder {folder.resolve()}" if is_folder else "embedded in the package"
        logger.info("checkpoint %s: %s", name, place)
        if hub_options.get("revision"):
            logger.warning("checkpoint %s: revision is ignored, because only Hub repositories have revisions", name)
        return (folder if is_folder else embedded[name]) / subfolder
    if isinstance(name_or_path, Path) or name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise OSError(
            f"expected a local folder, one of the embedded checkpoints {sorted(embedded)} or a Hub repository "
            f"'owner/name', found {without_secrets(name)!r}: correct the name or the path."
        )
    folder = fetch_repository(name, subfolder=subfolder, **hub_options)
    logger.info("checkpoint %s: Hub repository, commit %s in %s", name, commit_of(folder), folder)
    return folder
