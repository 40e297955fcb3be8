"""What belongs to a checkpoint's weights goes with them: into folders, and to the Hub."""

import shutil
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from huggingface_hub import ModelCard

import huidurep
from huidurep import HuiduRep
from huidurep.models.publishing import COMPANIONS, copy_files, push_folder

WEIGHTS = {"config.json", "model.safetensors", "fingerprint.safetensors"}


@pytest.fixture
def finetuned(tmp_path):
    """Folder of a checkpoint with a card, sorting parameters and something of its owner's."""
    folder = tmp_path / "finetuned"
    shutil.copytree(huidurep.list_checkpoints()["tetrode"], folder)
    (folder / "finetuning.json").write_text("{}")
    (folder / "notes.txt").write_text("private")
    return folder


def names(folder):
    return {path.name for path in Path(folder).iterdir()}


def test_card_and_sorting_parameters_come_along(finetuned, tmp_path):
    HuiduRep.from_pretrained(finetuned).save_pretrained(tmp_path / "copy")
    assert names(tmp_path / "copy") == WEIGHTS | set(COMPANIONS)
    for name in COMPANIONS:
        assert (tmp_path / "copy" / name).read_bytes() == (finetuned / name).read_bytes()
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained(tmp_path / "copy")
    assert pipeline.parameters.max_dimensions == 12


def test_other_weights_do_not_get_the_card(finetuned, tmp_path):
    model = HuiduRep.from_pretrained(finetuned)
    with torch.no_grad():
        model.reduction.weight[0] += 0.5
    model.save_pretrained(tmp_path / "changed")
    assert names(tmp_path / "changed") == WEIGHTS


def test_what_is_there_already_stays(finetuned, tmp_path):
    model = HuiduRep.from_pretrained(finetuned)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "README.md").write_text("mine")
    model.save_pretrained(tmp_path / "mine")
    assert (tmp_path / "mine" / "README.md").read_text() == "mine"
    model.save_pretrained(finetuned)  # onto itself
    assert names(finetuned) == WEIGHTS | set(COMPANIONS) | {"notes.txt"}


def test_a_new_model_has_no_companions(tmp_path):
    HuiduRep(huidurep.HuiduRepConfig(hidden_size=16, num_hidden_layers=1)).save_pretrained(tmp_path)
    assert names(tmp_path) == WEIGHTS


def test_options_of_the_upload_reach_the_client(finetuned, tmp_path, monkeypatch):
    """Their effect on a Hub is tested in test_publishing_to_hub.py."""
    uploaded, api = tmp_path / "uploaded", Mock()
    api.create_repo.return_value.repo_id = "owner/name"
    api.upload_folder.side_effect = lambda *, folder_path, **_: shutil.copytree(folder_path, uploaded)
    made = Mock(return_value=api)
    monkeypatch.setattr("huidurep.models.publishing.HfApi", made)
    model = HuiduRep.from_pretrained(finetuned)
    model.push_to_hub("name", private=True, token="secret", tags=["rat"], commit_message="first", create_pr=True)
    made.assert_called_once_with(token="secret")
    api.create_repo.assert_called_once_with("name", private=True, exist_ok=True)
    given = api.upload_folder.call_args.kwargs
    wanted = dict(repo_id="owner/name", commit_message="first", create_pr=True)
    assert {name: given[name] for name in wanted} == wanted
    code = {name for name in names(uploaded) if name.endswith(".py")}
    assert names(uploaded) - code == WEIGHTS | set(COMPANIONS) and "modeling_huidurep.py" in code
    card = ModelCard.load(uploaded / "README.md")
    assert "rat" in card.data.tags and card.data.license == "apache-2.0"


@pytest.fixture
def received(finetuned, tmp_path):
    """A checkpoint in which a licence is a link to a private key."""
    key = tmp_path / "home" / "id_rsa"
    key.parent.mkdir()
    key.write_text("private key")
    (finetuned / "LICENSE").symlink_to(key)
    return finetuned


def holds_the_key(folder):
    return any("private key" in path.read_text(errors="replace") for path in Path(folder).iterdir())


def test_links_out_of_a_checkpoint_are_not_copied(received, tmp_path, caplog):
    HuiduRep.from_pretrained(received).save_pretrained(tmp_path / "copy")
    assert names(tmp_path / "copy") == WEIGHTS | set(COMPANIONS)
    assert "LICENSE is not copied" in caplog.text


def test_links_out_of_a_checkpoint_are_not_published(received, tmp_path, monkeypatch):
    monkeypatch.setattr("huidurep.models.publishing.HfApi", Mock(side_effect=AssertionError("published")))
    with pytest.raises(OSError, match=r"LICENSE is a link to .*id_rsa"):
        push_folder(HuiduRep.from_pretrained(received), received, "owner/name")
    with pytest.raises(OSError, match="LICENSE is a link"):
        copy_files(received, tmp_path)


def test_a_checkpoint_may_lie_behind_a_link(finetuned, tmp_path):
    (tmp_path / "link").symlink_to(finetuned, target_is_directory=True)
    (finetuned / "NOTICE").symlink_to("README.md")
    HuiduRep.from_pretrained(tmp_path / "link").save_pretrained(tmp_path / "copy")
    assert names(tmp_path / "copy") == WEIGHTS | set(COMPANIONS) | {"NOTICE"}


@pytest.mark.parametrize("is_shared", [False, True])
def test_the_cache_of_the_hub_consists_of_links(finetuned, tmp_path, is_shared):
    cache = tmp_path / "cache"
    snapshot = cache / "models--owner--name" / "snapshots" / ("0" * 40)
    snapshot.mkdir(parents=True)
    blobs = cache / "blobs" / "ab" if is_shared else cache / "models--owner--name" / "blobs"
    blobs.mkdir(parents=True)
    for index, path in enumerate(sorted(finetuned.iterdir())):
        shutil.copy(path, blobs / f"{index:064x}")
        (snapshot / path.name).symlink_to(blobs / f"{index:064x}")
    HuiduRep.from_pretrained(snapshot).save_pretrained(tmp_path / "copy")
    assert names(tmp_path / "copy") == WEIGHTS | set(COMPANIONS)
    (tmp_path / "id_rsa").write_text("private key")
    for place in ("../../../../id_rsa", cache / "id_rsa"):
        shutil.copy(tmp_path / "id_rsa", cache / "id_rsa")
        (snapshot / "LICENSE").unlink(missing_ok=True)
        (snapshot / "LICENSE").symlink_to(place)
        HuiduRep.from_pretrained(snapshot).save_pretrained(tmp_path / "again")
        assert not holds_the_key(tmp_path / "again")
