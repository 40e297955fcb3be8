"""Publishing of a checkpoint with the files that belong to its weights, in a folder or on the Hub."""

import json
import logging
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import CommitInfo, HfApi, ModelCard, ModelCardData
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel
from transformers.dynamic_module_utils import custom_object_save

from huidurep.hub.errors import explain_hub_error
from huidurep.hub.repository import snapshot_of

from .fingerprint import FINGERPRINT, _differences, fingerprint_name

logger = logging.getLogger(__name__)
CARD = "README.md"
SORTING_PARAMETERS = "sorting_parameters.json"
# Files beside the weights of a checkpoint that describe them.
COMPANIONS = (CARD, SORTING_PARAMETERS, "finetuning.json", "pretraining.json", "training.json")
LICENCE_FILES = ("LICENSE*", "NOTICE*")
WEIGHTS = ("config.json", "fingerprint*.safetensors", "model*.safetensors", "model.safetensors.index*.json")
CARD_TEXT = """
# {name}

A [HuiduRep](https://arxiv.org/abs/2507.17224) encoder of extracellular spikes: snippets of up to {num_channels}
channels at {sampling_frequency:g} Hz become vectors of {embedding_size} numbers, which the package `huidurep` clusters.

```python
import huidurep

model = huidurep.HuiduRep.from_pretrained("{repo_id}")
sorting = huidurep.sort(recording, model="{repo_id}")
```

{note}
"""
TRAINED_FURTHER = (
    "These weights were trained further, from those that `earlier_weights` describes. How they perform has not been "
    "described yet."
)
EARLIER = "earlier_weights"
SHARED_BLOB = re.compile("[0-9a-f]{64}")
NO_NOTE = "What it was trained on and how it performs has not been described yet."


def copy_companions(model: PreTrainedModel, folder: str | Path, variant: str | None = None) -> None:
    """Copy card, licence, sorting parameters and training facts of the checkpoint that a model was loaded from.

    They are only copied if the weights are unchanged, since they describe those weights. Links to files elsewhere are
    left out, and a warning names them.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    folder : str or Path
        Folder with the model's fingerprint. Existing files are kept.
    variant : str, optional
        Of the fingerprint in `folder`, as in transformers.
    """
    source, folder = Path(getattr(model, "name_or_path", "") or "."), Path(folder)
    stored = [path for path in source.glob("fingerprint*.safetensors") if belongs_to(source, path)]
    if not stored or source.resolve() == folder.resolve():
        return
    written = load_file(folder / fingerprint_name(variant))
    if all(_differences(written, load_file(each)) for each in stored):
        logger.info("card and sorting parameters of %s are not copied: the weights have changed", source)
        return
    for path in _matching(source, (*COMPANIONS, *LICENCE_FILES)):
        if belongs_to(source, path):
            _copy_new(path, folder)
        else:
            logger.warning("%s is not copied: it is a link to a file outside of the checkpoint; replace it", path)


def set_aside_companions(model: PreTrainedModel, folder: Path, written: dict[str, Tensor]) -> None:
    """Move card, sorting parameters and facts that describe earlier weights of a folder into a folder inside it.

    Nothing is removed: the licence stays, and the moved files are in ``earlier_weights``, or ``earlier_weights_2``, ...
    A short card takes the place of the moved one, and default sorting parameters that of moved ones.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    folder : Path
        To which weights will be written.
    written : dict of str to torch.Tensor
        Fingerprint of these weights. Files are moved if the folder has fingerprints, and none is this one.
    """
    stored = sorted(folder.glob("fingerprint*.safetensors"))
    stale = [path for path in _matching(folder, COMPANIONS) if not _says_nothing(path)]
    if not stored or not stale or any(not _differences(written, load_file(each)) for each in stored):
        return
    names = [EARLIER, *(f"{EARLIER}_{number}" for number in range(2, 1000))]
    aside = next(folder / name for name in names if not (folder / name).exists())
    aside.mkdir()
    for path in stale:
        path.rename(aside / path.name)
    for path in stale:
        if path.name == CARD:
            path.write_text(short_card(model.config.to_dict(), str(folder), TRAINED_FURTHER), encoding="utf8")
        elif path.name == SORTING_PARAMETERS:
            path.write_text("{}\n", encoding="utf8")
    logger.warning(
        "%s described other weights than those that are written now: moved to %s; describe the new weights in the "
        "card, and check whether the licence applies",
        ", ".join(path.name for path in stale),
        aside,
    )


def _says_nothing(path: Path) -> bool:
    """Whether a companion is one that an earlier call of :func:`set_aside_companions` wrote."""
    text = path.read_text(encoding="utf8", errors="replace")
    return text == "{}\n" if path.name == SORTING_PARAMETERS else path.name == CARD and TRAINED_FURTHER in text


def copy_files(source: Path, folder: Path, patterns: Sequence[str] = (*WEIGHTS, *COMPANIONS, *LICENCE_FILES)) -> None:
    """Copy the files of a checkpoint, by default all of them, and no other files of its folder.

    Parameters
    ----------
    source, folder : Path
        Files that exist in `folder` are kept.
    patterns : sequence of str
        File names, with wildcards.

    Raises
    ------
    OSError
        If one of them is a link to a file outside of the checkpoint, which somebody else may have put there to learn
        what that file holds. Nothing is copied then.
    """
    paths = _matching(source, patterns)
    for path in paths:
        if not belongs_to(source, path):
            raise OSError(
                f"expected the checkpoint's own files in {source}, found that {path.name} is a link to "
                f"{path.resolve()}: replace it by a copy, or remove it."
            )
    for path in paths:
        _copy_new(path, folder)


def belongs_to(source: Path, path: Path) -> bool:
    """Whether a file of a checkpoint lies in its folder, or, in the Hub's cache, among the files of its repository.

    Parameters
    ----------
    source : Path
        Folder of the checkpoint.
    path : Path
        A file in it, perhaps a link.

    Returns
    -------
    bool
    """
    target, snapshot = path.resolve(), snapshot_of(source.absolute())
    if target.is_relative_to(source.resolve()) or snapshot is None:
        return target.is_relative_to(source.resolve())
    # The cache keeps REPOSITORY/snapshots/COMMIT/NAME as links to REPOSITORY/blobs/HASH; version 2 of the Hub's client
    # keeps files that several repositories have in blobs/HA/HASH beside the repositories.
    repository = snapshot.parent.parent.resolve()
    is_shared = target.parent.parent == repository.parent / "blobs" and SHARED_BLOB.fullmatch(target.name) is not None
    return target.parent == repository / "blobs" or is_shared


def _matching(source: Path, patterns: Sequence[str]) -> list[Path]:
    return sorted({path for pattern in patterns for path in source.glob(pattern) if path.is_file()})


def _copy_new(path: Path, folder: Path) -> None:
    if not (folder / path.name).exists():
        shutil.copyfile(path, folder / path.name)  # a link of the Hub's cache becomes a file


def add_code(model: PreTrainedModel, folder: str | Path) -> None:
    """Add the encoder's code to a saved model, so that ``AutoModel`` opens it without huidurep.

    Loading needs ``trust_remote_code=True``. A HuiduRepForPreTraining is opened as its encoder: the code of the
    pretraining is not published.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    folder : str or Path
        As :meth:`HuiduRep.save_pretrained` writes it; its config.json gets an ``auto_map``.

    Raises
    ------
    OSError
        If there is no config.json.
    """
    encoder: Any = getattr(model, "huidurep", model)
    path = Path(folder) / "config.json"
    settings = json.loads(path.read_text(encoding="utf8"))
    if type(encoder).__name__ != "HuiduRep":
        logger.info("%s is not a class of huidurep: it is published without code", type(encoder).__name__)
        return
    for auto_class, part in (("AutoConfig", encoder.config), ("AutoModel", encoder)):
        # Set for this object: register_for_auto_class would make every later save_pretrained write code, too.
        part._auto_class = auto_class
        custom_object_save(part, folder, settings)
        del part._auto_class
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf8")


def push_model(
    model: PreTrainedModel, repo_id: str, *, max_shard_size: int | str = "50GB", **options: Any
) -> CommitInfo:
    """Save a model with its code and everything that belongs to its weights, and upload the folder to the Hub.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    repo_id : str
        "owner/name"; created if there is none.
    max_shard_size : int or str, default "50GB"
    **options
        As in :func:`push_folder`.

    Returns
    -------
    huggingface_hub.CommitInfo

    Raises
    ------
    OSError
        If the Hub does not accept it; the message says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        add_code(model, folder)
        return _upload(Path(folder), repo_id, **options)


def push_folder(model: PreTrainedModel, folder: str | Path, repo_id: str, **options: Any) -> CommitInfo:
    """Upload the files of a checkpoint, byte by byte, with the encoder's code.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
        Loaded from the folder, which verifies its weights.
    folder : str or Path
        As :meth:`HuiduRep.save_pretrained` writes it. It is not changed.
    repo_id : str
        "owner/name"; created if there is none.
    **options
        ``license`` and ``tags``, for the card; ``private``, if the repository is created; ``token``; and
        ``commit_message``, ``commit_description``, ``revision`` (a branch, created if there is none) and
        ``create_pr`` of ``huggingface_hub.HfApi.upload_folder``.

    Returns
    -------
    huggingface_hub.CommitInfo

    Raises
    ------
    OSError
        If there is no fingerprint in the folder, or the Hub does not accept it; the message says why.
    """
    if not any(Path(folder).glob("fingerprint*.safetensors")):
        raise OSError(f"expected {FINGERPRINT} in {folder}, found none: write it with model.save_pretrained(...).")
    with tempfile.TemporaryDirectory() as staged:
        copy_files(Path(folder), Path(staged))
        add_code(model, staged)
        return _upload(Path(staged), repo_id, **options)


def _upload(  # noqa: PLR0913 - options of the card and of the repository
    folder: Path,
    repo_id: str,
    *,
    license: str | None = None,
    tags: Sequence[str] | None = None,
    private: bool | None = None,
    token: str | bool | None = None,
    **options: Any,
) -> CommitInfo:
    """Upload a temporary folder, in which the card is completed."""
    api, branch = HfApi(token=token), options.get("revision")
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if branch and not branch.startswith("refs/"):
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        # A card that somebody wrote on the Hub says more than an empty one.
        if (folder / CARD).is_file() or not api.file_exists(repo_id, CARD, revision=branch):
            _complete_card(folder, repo_id, license, tags or ())
        else:
            logger.warning("%s: the card on the Hub is kept; check whether it describes these weights", repo_id)
        # Files of earlier weights would be read together with the new ones.
        old = [name for name in (*WEIGHTS, *COMPANIONS) if name != CARD]
        options = {"commit_message": "Upload model", "delete_patterns": old} | options
        return api.upload_folder(repo_id=repo_id, folder_path=folder, **options)
    except Exception as error:  # the Hub client raises a family of unrelated classes
        raise OSError(explain_hub_error(error, repo_id, action="publish")) from error


def _complete_card(folder: Path, repo_id: str, license: str | None, tags: Sequence[str]) -> None:
    """Write a short card if there is none; add licence and tags to the existing one."""
    path = folder / CARD
    is_new = not path.is_file()
    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    card: Any = ModelCard(short_card(config, repo_id)) if is_new else ModelCard.load(path)
    card.data.license = license or card.data.license
    card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *tags]))
    if is_new:
        logger.warning("%s: it had no card, a short one is written; describe there what it was trained on", repo_id)
    if not card.data.license:
        logger.warning("%s: its card has no licence, so nobody may use it; pass license='apache-2.0', say", repo_id)
    if is_new or license or tags:
        card.save(path)


def short_card(config: dict[str, Any], repo_id: str, note: str = NO_NOTE) -> str:
    """Card of a checkpoint of which only the configuration is known.

    Parameters
    ----------
    config : dict
        Fields of the HuiduRepConfig.
    repo_id : str
        Name or folder from which the card's example loads the checkpoint.
    note : str
        Further text, such as where the weights come from.

    Returns
    -------
    str
        Markdown with metadata that huggingface_hub reads.
    """
    text = CARD_TEXT.format(**config, name=repo_id.split("/")[-1], repo_id=repo_id, note=note)
    data = ModelCardData(library_name="transformers", pipeline_tag="feature-extraction", tags=["spike-sorting"])
    return f"---\n{data.to_yaml()}\n---\n{text}"
