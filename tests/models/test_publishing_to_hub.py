"""Publishing to the Hub, and carrying away from it: the unmodified client against hub_server.py."""

import json
import re
import shutil
from pathlib import Path

import hub_client
import pytest
import torch
from huggingface_hub import ModelCard
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

import huidurep
from huidurep import HuiduRep, HuiduRepConfig
from huidurep.cli.main import app

EMBEDDED = huidurep.list_checkpoints()["tetrode"]
LAYOUT = {path.name for path in EMBEDDED.iterdir()}
MADE_BY_HUB = ".gitattributes"
ROOT = Path(__file__).parents[2]
EXAMPLE, PAGE = ROOT / "examples" / "04_publish_to_hub.py", ROOT / "docs" / "howto" / "hub.md"
OWNER = ("--token", "hf_owner")


@pytest.fixture
def name(hub, request):
    """A repository that does not exist yet."""
    return f"owner/{request.node.name.replace('_', '-')}"


@pytest.fixture
def folder(tmp_path):
    """The tetrode checkpoint among other things of a user's."""
    folder = tmp_path / "checkpoint"
    shutil.copytree(EMBEDDED, folder)
    (folder / "LICENSE").write_text("the licence\n")
    (folder / "notes.txt").write_text("private")
    (folder / "optimizer.safetensors").write_bytes(b"not ours")
    (folder / "run").mkdir()
    (folder / "run" / "trainer_state.json").write_text("{}")
    return folder


@pytest.fixture
def new_model(tmp_path):
    """Folder of a model without a card."""
    torch.manual_seed(0)
    HuiduRep(HuiduRepConfig(hidden_size=16, num_hidden_layers=1, intermediate_size=16)).save_pretrained(
        tmp_path / "new"
    )
    return tmp_path / "new"


def published(hub, name, branch="main"):
    """What was published but the code, which is there for trust_remote_code."""
    files = hub.files(name, branch)
    assert {path for path in files if path.endswith(".py")} >= {"modeling_huidurep.py", "configuration_huidurep.py"}
    return {path: content for path, content in files.items() if path != MADE_BY_HUB and not path.endswith(".py")}


def test_published_layout_is_the_embedded_layout(hub, client, name, tmp_path):
    commit, _ = client(hub_client.push, "tetrode", name, private=True, token="hf_owner", commit_message="first")
    assert commit == hub.repositories[name].branches["main"] and hub.repositories[name].last_message == "first"
    files = published(hub, name)
    assert set(files) == LAYOUT and hub.repositories[name].private
    unchanged = LAYOUT - {"config.json", "fingerprint.safetensors", "model.safetensors"}  # those are written anew
    assert all(files[each] == (EMBEDDED / each).read_bytes() for each in unchanged)
    assert ModelCard(files["README.md"].decode()).data.license == "apache-2.0"
    options = dict(cache_dir=tmp_path, token="hf_owner")
    back, weight, _ = client(hub_client.load, name, **options)
    assert weight == client(hub_client.load, "tetrode")[1] and {path.name for path in Path(back).iterdir()} == LAYOUT
    parameters, _, _ = client(hub_client.load_pipeline, name, **options)
    assert parameters["max_dimensions"] == 12  # from sorting_parameters.json
    with pytest.raises(OSError, match="private"):
        client(hub_client.load, name, cache_dir=tmp_path / "other", token="hf_reader")


def test_push_and_download_by_command(hub, client, name, folder, tmp_path):
    code, printed, _ = client(hub_client.command, "push", folder, name, *OWNER, "--private", "--json")
    told = json.loads(printed)
    commit = hub.repositories[name].branches["main"]
    assert code == 0 and told == dict(repository=name, commit=commit, url=f"{hub.url}/{name}/commit/{commit}")
    files = published(hub, name)
    config = json.loads(files.pop("config.json"))
    assert config.pop("auto_map")["AutoModel"] == "modeling_huidurep.HuiduRep"  # the one thing that is added
    assert config == json.loads((folder / "config.json").read_text())
    assert files == {each: (folder / each).read_bytes() for each in LAYOUT - {"config.json"} | {"LICENSE"}}
    carried, cache = tmp_path / "carried", tmp_path / "cache"
    words = ("download", name, "--output", carried, "--cache-dir", cache, *OWNER)
    code, printed, _ = client(hub_client.command, *words)
    assert code == 0 and printed == f"{name} at commit {told['commit']}, checked -> {carried}\n"
    assert {path.name: path.read_bytes() for path in carried.iterdir() if path.name != "config.json"} == files
    assert not any(path.is_symlink() for path in carried.iterdir())
    shutil.rmtree(cache)
    assert HuiduRep.from_pretrained(carried).config.num_channels == 4
    code, _, complaint = client(hub_client.command, *words)
    assert code == 2 and str(carried) in complaint  # a folder in use is not written into


def test_download_into_the_cache(hub, client, name, tmp_path):
    hub.publish(name, {each: (EMBEDDED / each).read_bytes() for each in LAYOUT})
    words = ("download", name, "--cache-dir", tmp_path, "--json")
    told = json.loads(client(hub_client.command, *words)[1])
    assert told["commit"] == Path(told["folder"]).name == hub.repositories[name].branches["main"]
    assert HuiduRep.from_pretrained(name, cache_dir=tmp_path)  # here, where the Hub cannot be reached
    hub.forget()
    assert client(hub_client.command, *words, "--force")[0] == 0
    assert len(hub.bodies()) == len(LAYOUT)


def test_download_refuses_what_is_damaged(hub, client, name, tmp_path):
    files = {each: (EMBEDDED / each).read_bytes() for each in LAYOUT}
    other = huidurep.list_checkpoints()["linear"] / "fingerprint.safetensors"
    hub.publish(name, files | {other.name: other.read_bytes()})
    carried = tmp_path / "carried"
    code, _, complaint = client(hub_client.command, "download", name, "--output", carried, "--cache-dir", tmp_path)
    assert code == 2 and "fingerprint.safetensors" in complaint and not carried.exists()


def test_an_embedded_checkpoint_is_copied_without_a_network(tmp_path):
    result = CliRunner().invoke(app, ["download", "tetrode", "--output", str(tmp_path / "out")])
    assert result.exit_code == 0 and result.stdout == f"tetrode, checked -> {tmp_path / 'out'}\n"
    assert {path.name for path in (tmp_path / "out").iterdir()} == LAYOUT


def test_other_weights_replace_what_belonged_to_the_old(hub, client, name):
    client(hub_client.push, "tetrode", name, token="hf_owner")
    old = published(hub, name)
    _, log = client(hub_client.push, "tetrode", name, scale=1.5, token="hf_owner", license="mit")
    new = published(hub, name)
    assert set(new) == {"README.md", "config.json", "fingerprint.safetensors", "model.safetensors"}
    assert new["README.md"] == old["README.md"] and new["model.safetensors"] != old["model.safetensors"]
    assert [line for line in log if "card on the Hub" in line]


def test_the_same_again_makes_no_commit(hub, client, name, folder):
    words = ("push", folder, name, *OWNER, "--json")
    commits = [json.loads(client(hub_client.command, *words)[1])["commit"] for _ in range(2)]
    assert commits[0] == commits[1] and len(hub.repositories[name].commits) == 2  # the Hub's own first, and ours


def test_a_model_without_a_card_gets_a_short_one(hub, client, name, new_model):
    _, log = client(hub_client.push, new_model, name, token="hf_owner", tags=["rat"])
    assert [line for line in log if "no card" in line] and [line for line in log if "no licence" in line]
    card = ModelCard(published(hub, name)["README.md"].decode())
    assert card.data.library_name == "transformers" and set(card.data.tags) == {"spike-sorting", "rat"}
    assert f'from_pretrained("{name}")' in card.text and "48 numbers" in card.text
    code, _, _ = client(hub_client.command, "push", new_model, f"{name}-2", *OWNER, "--license", "cc-by-4.0")
    card = ModelCard(published(hub, f"{name}-2")["README.md"].decode())
    assert code == 0 and card.data.license == "cc-by-4.0"
    assert not (new_model / "README.md").exists()  # the user's folder stays as it was


def test_a_branch_is_made(hub, client, name, folder, tmp_path):
    client(hub_client.push, "tetrode", name, token="hf_owner")
    words = ("push", folder, name, *OWNER, "--revision", "v2", "--message", "second")
    assert client(hub_client.command, *words)[0] == 0
    assert "LICENSE" in published(hub, name, "v2") and "LICENSE" not in published(hub, name)
    assert Path(client(hub_client.load, name, revision="v2", cache_dir=tmp_path)[0], "LICENSE").is_file()


def damage(folder):
    weights = load_file(folder / "model.safetensors")
    weights["reduction.weight"] *= 1.1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


REFUSED = {
    "embeddings": damage,
    "fingerprint.safetensors": lambda folder: (folder / "fingerprint.safetensors").unlink(),
    "config.json": lambda folder: (folder / "config.json").unlink(),
    "a local folder": shutil.rmtree,
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_is_no_checkpoint_is_not_published(hub, client, folder, reason):
    REFUSED[reason](folder)
    code, _, complaint = client(hub_client.command, "push", folder, "owner/refused", *OWNER)
    assert code == 2 and reason in complaint and complaint.count("huidurep: ") == 1
    assert hub.requests == []


CASES = {
    "no token": ((), None, ["401", "HF_TOKEN"]),
    "another's name": (("--token", "hf_reader"), None, ["403", "rights", "HF_TOKEN"]),
    "wrong token": (("--token", "hf_wrong"), None, ["Invalid credentials", "/settings/tokens"]),
    "server down": (OWNER, dict(status=500), ["500"]),
    "busy": (OWNER, dict(status=429), ["429", "minutes"]),
    "hangs up": (OWNER, dict(silent_s=0.0), ["network", "HTTPS_PROXY"]),
}


@pytest.mark.parametrize("case", CASES)
def test_failures_are_one_sentence(hub, client, folder, case):
    token, failure, words = CASES[case]
    if failure:
        hub.fail("POST /api/repos/create", **failure, times=100)
    code, _, complaint = client(hub_client.command, "push", folder, "owner/failures", *token)
    lines = [line for line in complaint.splitlines() if line.startswith("huidurep: ")]
    assert code == 2 and len(lines) == 1 and all(word in lines[0] for word in words), complaint
    assert "owner/failures" not in hub.repositories


def test_offline(folder):
    """This process is offline."""
    result = CliRunner().invoke(app, ["push", str(folder), "owner/offline"])
    assert result.exit_code == 2 and "unset HF_HUB_OFFLINE" in result.stderr


def test_example(hub, client, name):
    printed = client(hub_client.run_script, EXAMPLE, name, HF_TOKEN="hf_owner")
    assert f"published {name} at commit {hub.repositories[name].branches['main']}" in printed
    assert "before and after: 0\n" in printed and "licence on the card: apache-2.0" in printed
    assert hub.repositories[name].private and set(published(hub, name)) == LAYOUT


def test_snippets_of_the_page_run(hub, client, tmp_path):
    name = "owner/my-probe"  # as the page calls it
    hub.publish(name, {each: (EMBEDDED / each).read_bytes() for each in LAYOUT})
    snippets = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf8"), flags=re.DOTALL)
    assert len(snippets) == 3
    script = tmp_path / "snippets.py"
    script.write_text("\n".join(snippets))
    client(hub_client.run_script, script, HF_TOKEN="hf_owner")
    assert hub.repositories[name].last_message == "Fine-tuned on three rats"
