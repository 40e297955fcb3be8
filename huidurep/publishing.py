"""Publishing a checkpoint: what stands beside its weights goes with them, to a folder or to the Hub."""

import logging
import shutil
import tempfile
from pathlib import Path

from safetensors.torch import load_file

from .hub import FINGERPRINT, same_fingerprints
from .publishing_code import add_code

logger = logging.getLogger(__name__)

# What stands beside the weights in a checkpoint's folder and belongs to them.
COMPANIONS = ("README.md", "sorting_parameters.json", "finetuning.json", "pretraining.json", "training.json")


def copy_companions(model, folder):
    """Copy card, sorting parameters and facts of the checkpoint that a model was loaded from.

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
    for name in COMPANIONS:
        if (source / name).is_file() and not (folder / name).exists():
            shutil.copyfile(source / name, folder / name)


def push_model(model, repo_id, *, max_shard_size="50GB", tags=None, private=None, token=None, **options):
    """Save a model with all that belongs to it, its code too, and upload the folder to the Hub.

    Parameters
    ----------
    model : HuiduRep or HuiduRepForPreTraining
    repo_id : str
        "owner/name"; made where there is none.
    max_shard_size : int or str, default "50GB"
    tags : list of str, optional
        Added to the card, where there is one.
    private : bool, optional
        Of a repository that is made.
    token : str or bool, optional
    **options
        ``commit_message``, ``commit_description``, ``revision``, ``create_pr`` of
        ``huggingface_hub.HfApi.upload_folder``.

    Returns
    -------
    huggingface_hub.CommitInfo
    """
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder, max_shard_size=max_shard_size)
        add_code(folder)
        _tag_card(Path(folder) / "README.md", tags)
        repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id
        return api.upload_folder(repo_id=repo_id, folder_path=folder, **{"commit_message": "Upload model"} | options)


def _tag_card(path, tags):
    if not tags or not path.is_file():
        return
    from huggingface_hub import ModelCard

    card = ModelCard.load(path)
    card.data.tags = list(dict.fromkeys([*(card.data.tags or []), *tags]))
    card.save(path)
