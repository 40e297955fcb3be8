"""Publishing a checkpoint: what stands beside its weights goes with them, to a folder or to the Hub."""

import json
import logging
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import load_file

from huidurep.hub.errors import explain_writing

from .fingerprint import FINGERPRINT, same_fingerprints
from .remote_code import add_code

logger = logging.getLogger(__name__)
CARD = "README.md"
# What stands beside the weights in a checkpoint's folder and belongs to them.
COMPANIONS = (CARD, "sorting_parameters.json", "finetuning.json", "pretraining.json", "training.json")
LICENCE_FILES = ("LICENSE*", "NOTICE*")
WEIGHTS = ("config.json", FINGERPRINT, "model*.safetensors", "model.safetensors.index.json")
CARD_TEXT = """
# {name}

A [HuiduRep](https://arxiv.org/abs/2507.17224) encoder of extracellular spikes: snippets of up to {num_channels}
channels at {sampling_frequency:g} Hz become vectors of {embedding_size} numbers, which the package `huidurep` clusters.

```python
import huidurep

model = huidurep.HuiduRep.from_pretrained("{repo_id}")
sorting = huidurep.sort(recording, model="{repo_id}")
```

Its makers have not said yet what it was trained on and how good it is.
"""


def copy_companions(model, folder):
    """Copy card, licence, sorting parameters and facts of the checkpoint that a model was loaded from.

    Only where the weights are still those: the card of others would say what is not true of them.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    folder : str or Path
        With the model's fingerprint. Files that it has already are left as they are.
    """
    source, folder = Path(getattr(model, "name_or_path", "") or "."), Path(folder)
    stored, written = source / FINGERPRINT, folder / FINGERPRINT
    if not stored.is_file() or source.resolve() == folder.resolve():
        return
    if not same_fingerprints(load_file(written), load_file(stored)):
        logger.info("card and sorting parameters of %s are left out: the weights have changed since", source)
        return
    copy_files(source, folder, (*COMPANIONS, *LICENCE_FILES))


def copy_files(source, folder, patterns=(*WEIGHTS, *COMPANIONS, *LICENCE_FILES)):
    """Copy the files of a checkpoint, by default all, and nothing else that lies there.

    Parameters
    ----------
    source, folder : Path
        Files that `folder` has already are left as they are.
    patterns : sequence of str
        Names of files, with wildcards.
    """
    for path in sorted({path for pattern in patterns for path in source.glob(pattern)}):
        if path.is_file() and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)  # follows the links of the Hub's cache


def push_model(model, repo_id, *, max_shard_size="50GB", **options):
    """Save a model with all that belongs to it, its code too, and upload the folder to the Hub.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    repo_id : str
        "owner/name"; made where there is none.
    max_shard_size : int or str, default "50GB"
    **options
        As in :func:`push_folder`.

    Returns
    -------
    huggingface_hub.CommitInfo

    Raises
    ------
    OSError
        If the Hub does not take it; the message says why.
    """
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        add_code(folder)
        return _upload(Path(folder), repo_id, **options)


def push_folder(folder, repo_id, **options):
    """Upload what belongs to a checkpoint and nothing else of its folder.

    Load the checkpoint first (`HuiduRep.from_pretrained(folder)`): weights that are not those that were saved would
    otherwise be published.

    Parameters
    ----------
    folder : str or Path
        As :meth:`HuiduRep.save_pretrained` writes it. It stays as it is.
    repo_id : str
        "owner/name"; made where there is none.
    **options
        ``license`` and ``tags``, for the card; ``private``, of a repository that is made; ``token``; and
        ``commit_message``, ``commit_description``, ``revision`` (a branch, made where there is none) and
        ``create_pr`` of ``huggingface_hub.HfApi.upload_folder``.

    Returns
    -------
    huggingface_hub.CommitInfo

    Raises
    ------
    OSError
        If there is no checkpoint with a fingerprint in the folder, or the Hub does not take it; the message says why.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise OSError(f"expected the folder of a checkpoint, found none at {folder}: correct the path.")
    if not (folder / FINGERPRINT).is_file():
        raise OSError(f"expected {FINGERPRINT} in {folder}, found none: write it with model.save_pretrained(...).")
    with tempfile.TemporaryDirectory() as staged:
        copy_files(folder, Path(staged))
        add_code(staged)
        return _upload(Path(staged), repo_id, **options)


def _upload(folder, repo_id, *, license=None, tags=None, private=None, token=None, **options):
    """Upload a folder that may be changed."""
    from huggingface_hub import HfApi

    api, branch = HfApi(token=token), options.get("revision")
    try:
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        if branch and not branch.startswith("refs/"):
            api.create_branch(repo_id, branch=branch, exist_ok=True)
        # A card that somebody wrote on the Hub is better than one that says nothing.
        if (folder / CARD).is_file() or not api.file_exists(repo_id, CARD, revision=branch):
            _complete_card(folder, repo_id, license, tags)
        else:
            logger.warning("%s: the card that the Hub has stays; see whether it is true of these weights", repo_id)
        # What other weights left there would be read with these.
        old = [name for name in (*WEIGHTS, *COMPANIONS) if name != CARD]
        options = {"commit_message": "Upload model", "delete_patterns": old} | options
        return api.upload_folder(repo_id=repo_id, folder_path=folder, **options)
    except Exception as error:  # the Hub client raises a family of unrelated classes
        raise OSError(explain_writing(error, repo_id)) from error


def _complete_card(folder, repo_id, license, tags):
    """Write a short card where there is none; add licence and tags to the one there is."""
    from huggingface_hub import ModelCard

    path = folder / CARD
    is_new = not path.is_file()
    card = _short_card(folder, repo_id) if is_new else ModelCard.load(path)
    card.data.license = license or card.data.license
    card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *(tags or [])]))
    if is_new:
        logger.warning("%s: it had no card, so a short one is written; say there what it was trained on", repo_id)
    if not card.data.license:
        logger.warning("%s: its card names no licence, so nobody may use it; pass license='apache-2.0', say", repo_id)
    if is_new or license or tags:
        card.save(path)


def _short_card(folder, repo_id):
    from huggingface_hub import ModelCard, ModelCardData

    config = json.loads((folder / "config.json").read_text(encoding="utf8"))
    text = CARD_TEXT.format(**config, name=repo_id.split("/")[-1], repo_id=repo_id)
    data = ModelCardData(library_name="transformers", pipeline_tag="feature-extraction", tags=["spike-sorting"])
    return ModelCard(f"---\n{data.to_yaml()}\n---\n{text}")
