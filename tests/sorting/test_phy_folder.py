"""Spikes and tables of phy folders, as phy, spreadsheets and other programs leave them."""

import numpy as np
import pytest

from huidurep.sorting.phy_folder import (
    is_phy_folder,
    plain_label,
    read_phy_columns,
    read_phy_spikes,
    unit_ids_of_clusters,
)


@pytest.fixture
def folder(tmp_path):
    """A phy folder with two spikes."""
    save(tmp_path, [5, 9], [0, 3])
    return tmp_path


def save(folder, samples, clusters):
    np.save(folder / "spike_times.npy", samples)
    np.save(folder / "spike_clusters.npy", clusters)


def test_spikes_of_any_type_of_number(folder):
    assert is_phy_folder(folder)
    save(folder, np.array([[5], [9]], dtype="uint64"), np.array([0.0, 3.0], dtype="float32"))
    samples, clusters = read_phy_spikes(folder)
    assert (samples.tolist(), clusters.tolist()) == ([5, 9], [0, 3])


@pytest.mark.parametrize("samples", [[0.17, 0.3], ["5", "9"], [np.nan, 5.0]])
def test_times_that_are_no_samples_are_refused(folder, samples):
    save(folder, samples, [0, 3])
    with pytest.raises(ValueError, match="time in samples"):
        read_phy_spikes(folder)


def test_other_numbers_of_spikes_are_refused(folder):
    save(folder, [5, 9, 11], [0, 3])
    with pytest.raises(ValueError, match=r"one cluster a spike \(3\)"):
        read_phy_spikes(folder)
    (folder / "spike_times.npy").unlink()
    with pytest.raises(ValueError, match="spike_times"):
        read_phy_spikes(folder)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cluster_group.tsv", b"cluster_id\tgroup\n0\tnoise\n3\tgood\n"),
        ("cluster_group.tsv", b"\xef\xbb\xbfcluster_id\tgroup\r\n0\tnoise\r\n3\tgood\r\n\r\n"),
        ("cluster_info.tsv", b"id\tdepth\tgroup\n0\t1.5\tnoise\n3\t2.5\tgood\n"),
        ("cluster_groups.csv", b"cluster_id\tgroup\n0\tnoise\n3\tgood\n"),
        ("cluster_group.csv", b"cluster_id,group\n0,noise\n3,good\n"),
        ("cluster_group.csv", b"cluster_id, group\n0, noise \n3, good, checked\n"),
    ],
)
def test_labels_of_every_version_of_phy(folder, name, content):
    (folder / name).write_bytes(content)
    assert dict(read_phy_columns(folder))["group"] == {0: "noise", 3: "good"}


def test_words_of_phy_in_other_letters():
    assert [plain_label(label) for label in ("Noise", " MUA ", "good", np.str_("GOOD"), "Axon")] == [
        "noise",
        "mua",
        "good",
        "good",
        "Axon",
    ]


def test_single_columns_come_after_the_table_of_all(folder):
    (folder / "cluster_group.tsv").write_text("cluster_id\tgroup\n0\tnoise\n")
    (folder / "cluster_info.tsv").write_text("cluster_id\tgroup\n0\tgood\n")
    assert dict(read_phy_columns(folder))["group"] == {0: "noise"}


@pytest.mark.parametrize(
    "content", [b"unit\tgroup\n0\tnoise\n", b"cluster_id\tgroup\n0.5\tnoise\n", b"\xff\tgroup\n1\t2\n"]
)
def test_tables_that_name_no_clusters_are_refused(folder, content):
    (folder / "cluster_group.tsv").write_bytes(content)
    with pytest.raises(ValueError, match=r"cluster_id in each line of .*cluster_group\.tsv"):
        dict(read_phy_columns(folder))


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        ({}, [0, 1, 2, 5]),
        ({0: "0", 1: "1", 2: "2", 3: "3", 4: "4"}, [0, 1, 2, 5]),  # 5 is a merger of 3 and 4
        ({0: "2", 1: "5", 2: "20", 3: "8", 4: "9"}, [2, 5, 20, 21]),
        ({0: "-2", 1: "-1", 2: "0", 5: "1"}, [-2, -1, 0, 1]),
        ({0: "01", 1: "1", 2: "2", 5: "3"}, ["01", "1", "2", "3"]),
        ({0: "a", 1: "b 1", 2: "c"}, ["a", "b 1", "c", "6"]),
        ({0: "7", 1: "8", 2: "9", 5: "9"}, [7, 8, 10, 11]),  # two parts of a unit
    ],
)
def test_clusters_have_the_ids_of_the_units_that_were_exported(noted, expected):
    assert unit_ids_of_clusters(np.array([0, 1, 2, 5]), noted).tolist() == expected
