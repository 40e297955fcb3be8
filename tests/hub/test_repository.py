"""Reading from the Hub: the unmodified client against a real HTTP server on loopback (hub_server.py)."""

import hashlib
import re
import shutil
import socket
from pathlib import Path

import hub_client
import huggingface_hub
import pytest
import torch
from safetensors.torch import load_file, save

import huidurep
from huidurep import HuiduRep, HuiduRepConfig

WEIGHTS = "model.safetensors"


def small_config(**settings):
    return HuiduRepConfig(hidden_size=16, num_hidden_layers=1, intermediate_size=16, embedding_size=8, **settings)


def read_folder(folder):
    return {path.name: path.read_bytes() for path in Path(folder).iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def versions(tmp_path_factory):
    """Two checkpoints of one configuration: dicts of name -> content, as they are published."""
    made = []
    for seed in (0, 1):
        torch.manual_seed(seed)
        folder = tmp_path_factory.mktemp("version")
        HuiduRep(small_config()).save_pretrained(folder)
        (folder / "README.md").write_text("---\nlicense: apache-2.0\n---\n# small\n")
        made.append(read_folder(folder))
    return made


@pytest.fixture
def name(request):
    """A repository of the test's own."""
    return f"owner/{re.sub('[^a-z0-9]+', '-', request.node.name)[:80].strip('-')}"


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("the test reached for the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def asked(hub):
    return [f"{each.method} {each.path}" for each in hub.requests]


def test_first_load_fetches_all_and_says_so(hub, client, name, versions, tmp_path):
    commit = hub.publish(name, versions[0] | {"training_args.bin": b"no", "notes.txt": b"no"})
    folder, _, log = client(hub_client.load, name, cache_dir=tmp_path, token="hf_reader")
    assert Path(folder).name == commit and read_folder(folder) == versions[0]
    assert f"INFO checkpoint {name}: Hub repository, commit {commit} in {folder}" in log
    content = [each for each in hub.requests if each.path.startswith("/content/")]
    assert content and all(each.token is None for each in content), "the token went to another host"
    assert all(each.token == "hf_reader" for each in hub.requests if each.path.startswith("/api/models/"))


def test_second_load_is_one_small_request(hub, client, name, versions, tmp_path):
    hub.publish(name, versions[0])
    first = client(hub_client.load, name, cache_dir=tmp_path)
    assert len(hub.bodies()) == len(versions[0])
    hub.forget()
    assert client(hub_client.load, name, cache_dir=tmp_path)[:2] == first[:2]
    assert asked(hub) == [f"GET /api/models/{name}"] and hub.bodies() == []


def test_a_commit_in_the_cache_needs_no_connection(hub, client, name, versions, tmp_path):
    commit = hub.publish(name, versions[0])
    client(hub_client.load, name, cache_dir=tmp_path, revision=commit)
    hub.forget()
    folder, _, _ = client(hub_client.load, name, cache_dir=tmp_path, revision=commit)
    assert Path(folder).name == commit and asked(hub) == []


def test_moved_branch(hub, client, name, versions, tmp_path):
    first = hub.publish(name, versions[0])
    old = client(hub_client.load, name, cache_dir=tmp_path)
    second = hub.publish(name, versions[1])
    hub.forget()
    new = client(hub_client.load, name, cache_dir=tmp_path)
    assert [Path(each[0]).name for each in (old, new)] == [first, second] and old[1] != new[1]
    changed = {each for each in versions[0] if versions[0][each] != versions[1][each]}
    assert len(hub.bodies()) == len(changed) == 2  # weights and fingerprint; card and configuration are the same
    assert client(hub_client.load, name, cache_dir=tmp_path, revision=first)[:2] == old[:2]


def test_branches_and_commits_by_name(hub, client, name, versions, tmp_path):
    hub.publish(name, versions[0])
    commit = hub.publish(name, versions[1], branch="v2")
    assert Path(client(hub_client.load, name, cache_dir=tmp_path, revision="v2")[0]).name == commit


def load_despite_a_break(client, name, cache_dir):
    """The folder. The client goes on by itself; old ones gave up, and the next load goes on."""
    try:
        return client(hub_client.load, name, cache_dir=cache_dir)[0]
    except OSError as error:
        if tuple(map(int, huggingface_hub.__version__.split(".")[:2])) >= (1, 20):
            raise
        assert "try again" in str(error)
        return client(hub_client.load, name, cache_dir=cache_dir)[0]


def test_a_broken_download_goes_on_where_it_broke(hub, client, name, tmp_path):
    # The client writes pieces of 10 MiB: only what is longer can be taken up again in the middle.
    torch.manual_seed(0)
    HuiduRep(HuiduRepConfig(hidden_size=256, num_hidden_layers=4, intermediate_size=1024)).save_pretrained(tmp_path)
    files = read_folder(tmp_path)
    size = len(files[WEIGHTS])
    assert size > 11 * 2**20
    hub.publish(name, files)
    hub.fail(f"GET /content/{hashlib.sha256(files[WEIGHTS]).hexdigest()}", cut_after=11 * 2**20)
    folder = load_despite_a_break(client, name, tmp_path / "cache")
    assert (Path(folder) / WEIGHTS).read_bytes() == files[WEIGHTS]
    resumed = [each for each in hub.bodies() if each.range]
    assert [(each.range, each.status) for each in resumed] == [(f"bytes={10 * 2**20}-", 206)]
    assert resumed[0].sent == size - 10 * 2**20


def test_a_small_file_broken_off_is_fetched_again(hub, client, name, versions, tmp_path):
    hub.publish(name, versions[0])
    hub.fail("GET .*/config.json", cut_after=20)
    folder = load_despite_a_break(client, name, tmp_path)
    assert read_folder(folder) == versions[0]


def test_a_busy_moment_passes(hub, client, name, versions, tmp_path):
    hub.publish(name, versions[0])
    hub.fail("HEAD .*/resolve/", status=429, headers={"ratelimit": '"resolvers";r=0;t=0'})
    assert read_folder(client(hub_client.load, name, cache_dir=tmp_path)[0]) == versions[0]


def prepare(hub, name, files):
    """Repositories and failures of the cases below: case -> (name, options, tokens of the message)."""
    hub.publish(name, files)
    hub.publish(f"{name}-private", files, private=True)
    hub.publish(f"{name}-gated", files, readers={"owner"})
    hub.publish(f"{name}-foreign", {"data.csv": b"1,2"})
    return {
        "absent": (f"{name}-absent", {}, [f"{name}-absent", "name", "private", "token="]),
        "absent, logged in": (f"{name}-absent", {"token": "hf_reader"}, ["name", "private"]),
        "private": (f"{name}-private", {}, [f"{name}-private", "private", "token="]),
        "private, other user": (f"{name}-private", {"token": "hf_reader"}, ["private"]),
        "gated": (f"{name}-gated", {}, ["access", f"{hub.url}/{name}-gated", "HF_TOKEN"]),
        "gated, no access": (f"{name}-gated", {"token": "hf_reader"}, ["403", "ask"]),
        "bad token": (name, {"token": "hf_wrong"}, ["Invalid credentials", "/settings/tokens"]),
        "no token": (name, {"token": True}, ["hf auth login", "HF_TOKEN"]),
        "revision": (name, {"revision": "v9"}, ["'v9'", "/commits"]),
        "commit": (name, {"revision": "0" * 40}, ["'000", "/commits"]),
        "not a checkpoint": (f"{name}-foreign", {}, [f"{name}-foreign", "config.json"]),
        "bad name": ("owner/a b", {}, ["'owner/a b'", "name"]),
    }


@pytest.fixture(scope="module")
def cases(_hub_and_client, versions):
    return prepare(_hub_and_client[0], "owner/cases", versions[0])


CASES = list(prepare(type("", (), {"publish": lambda *_, **__: None, "url": ""})(), "", {}))


@pytest.mark.parametrize("case", CASES)
def test_refusals_say_what_to_do(hub, client, cases, case, tmp_path):
    name, options, words = cases[case]
    with pytest.raises(OSError) as caught:
        client(hub_client.load, name, cache_dir=tmp_path, **options)
    assert_sentence(caught, *words)


def assert_sentence(caught, *words):
    text = str(caught.value)
    assert "\n" not in text and all(word in text for word in words), text


TOO_MANY = dict(status=429, headers={"ratelimit": '"api";r=0;t=55'})
NO_ENTRY = dict(status=404, headers={"X-Error-Code": "EntryNotFound"})
BROKEN = {
    "busy": ("GET /api/models", TOO_MANY, ["429", "55 seconds", "log in"]),
    "server down": ("GET /api/models", dict(status=503), ["503", "wait"]),
    "server error": ("GET /content", dict(status=500), ["500", "wait"]),
    "hangs up": ("GET /api/models", dict(silent_s=0.0), ["network", "HTTPS_PROXY"]),
    "file lost": ("HEAD", NO_ENTRY, ["404", "owner/"]),
}


@pytest.mark.parametrize("case", BROKEN)
def test_failures_say_what_to_do(hub, client, case, name, versions, tmp_path):
    pattern, how, words = BROKEN[case]
    hub.publish(name, versions[0])
    hub.fail(pattern, **how, times=100)
    with pytest.raises(OSError) as caught:
        client(hub_client.load, name, cache_dir=tmp_path)
    assert_sentence(caught, *words)
    hub.forget()  # and what has come stays: the next load fetches the rest
    assert read_folder(client(hub_client.load, name, cache_dir=tmp_path)[0]) == versions[0]


SILENT = {"503": dict(status=503), "429": TOO_MANY, "timed out": dict(silent_s=3.0)}


@pytest.mark.parametrize("said", SILENT)
def test_the_cache_serves_when_the_hub_does_not(hub, client, name, versions, tmp_path, said):
    hub.publish(name, versions[0])
    first = client(hub_client.load, name, cache_dir=tmp_path)
    hub.fail("GET /api/models", **SILENT[said], times=100)
    folder, weight, log = client(hub_client.load, name, cache_dir=tmp_path)
    assert (folder, weight) == first[:2]
    warnings = [line for line in log if line.startswith(f"WARNING {name}: the copy in the cache is used")]
    assert len(warnings) == 1 and said in warnings[0]


def test_private_and_gated_open_with_a_token(hub, client, cases, tmp_path):
    for case in ("private", "gated"):
        assert client(hub_client.load, cases[case][0], cache_dir=tmp_path, token="hf_owner")


def test_offline(hub, client, name, versions, tmp_path, no_network):
    """This process is offline (HF_HUB_OFFLINE=1), and any connection fails the test."""
    commit = hub.publish(name, versions[0])
    with pytest.raises(OSError) as caught:
        HuiduRep.from_pretrained(name, cache_dir=tmp_path)
    assert_sentence(caught, str(tmp_path), "HF_HUB_OFFLINE", f"huidurep download {name}")
    with pytest.raises(OSError, match="local_files_only"):
        client(hub_client.load, name, cache_dir=tmp_path, local_files_only=True)
    assert asked(hub) == []
    client(hub_client.load, name, cache_dir=tmp_path)
    hub.forget()
    assert HuiduRep.from_pretrained(name, cache_dir=tmp_path).name_or_path.endswith(commit)
    assert client(hub_client.load, name, cache_dir=tmp_path, local_files_only=True)[0].endswith(commit)
    assert asked(hub) == []


@pytest.mark.parametrize("lost", [WEIGHTS, "config.json"])
def test_a_part_in_the_cache(hub, client, name, versions, tmp_path, lost, no_network):
    hub.publish(name, versions[0])
    folder = Path(client(hub_client.load, name, cache_dir=tmp_path)[0])
    (folder / lost).resolve().unlink()  # the link of the snapshot leads nowhere, as after a cleaned disk
    (folder / lost).unlink()
    shutil.rmtree(folder.parents[1] / "trees", ignore_errors=True)  # by which newer clients notice it themselves
    with pytest.raises(OSError, match="a part.*HF_HUB_OFFLINE"):
        HuiduRep.from_pretrained(name, cache_dir=tmp_path)
    hub.forget()
    assert read_folder(client(hub_client.load, name, cache_dir=tmp_path)[0]) == versions[0]
    assert len(hub.bodies()) == 1


def test_weights_of_another_model_are_refused(hub, client, name, versions, tmp_path):
    hub.publish(name, versions[0] | {WEIGHTS: versions[1][WEIGHTS]})
    with pytest.raises(ValueError, match=r"embeddings.*force_download=True"):
        client(hub_client.load, name, cache_dir=tmp_path)


def test_a_damaged_copy_is_found_and_replaced(hub, client, name, versions, tmp_path):
    hub.publish(name, versions[0])
    blob = (Path(client(hub_client.load, name, cache_dir=tmp_path)[0]) / WEIGHTS).resolve()
    weights = load_file(blob)
    weights["reduction.weight"] = weights["reduction.weight"] * 1.1
    damages = [(b"", OSError), (versions[0][WEIGHTS][:-100], OSError), (save(weights, {"format": "pt"}), ValueError)]
    for damaged, kind in damages:
        blob.write_bytes(damaged)
        with pytest.raises(kind, match="force_download=True"):
            client(hub_client.load, name, cache_dir=tmp_path)
    folder, _, _ = client(hub_client.load, name, cache_dir=tmp_path, force_download=True)
    assert read_folder(folder) == versions[0]


def test_the_pipeline_takes_the_same_options(hub, client, name, versions, tmp_path):
    commit = hub.publish(name, versions[0] | {"sorting_parameters.json": b'{"detect_threshold": 4.5}'}, private=True)
    options = dict(cache_dir=tmp_path, token="hf_owner", merge_bias=0.5)
    parameters, model_name, revision = client(hub_client.load_pipeline, name, **options)
    assert (parameters["detect_threshold"], parameters["merge_bias"]) == (4.5, 0.5)
    assert (model_name, revision) == (name, commit)


def test_folders_and_embedded_names_connect_to_nothing(hub, client, tmp_path):
    embedded = huidurep.list_checkpoints()["tetrode"]
    log = client(hub_client.load, embedded)[2] + client(hub_client.load, "tetrode")[2]
    assert log == [
        f"INFO checkpoint {embedded}: local folder {embedded}",
        "INFO checkpoint tetrode: embedded in the package",
    ]
    client(hub_client.load_pipeline, "tetrode")
    assert "revision" in client(hub_client.load, "tetrode", revision="v2")[2][-1]
    assert asked(hub) == []


def test_a_folder_of_data_does_not_hide_an_embedded_checkpoint(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO", logger="huidurep")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tetrode").mkdir()
    assert HuiduRep.from_pretrained("tetrode").config.num_channels == 4
    assert HuiduRepConfig.from_pretrained("tetrode").num_channels == 4
    assert "checkpoint tetrode: embedded in the package" in caplog.messages


def test_no_module_connects_or_downloads_at_import(client):
    assert client(hub_client.import_all) == {"modules": pytest.approx(150, abs=50), "downloads": [], "errors": {}}
