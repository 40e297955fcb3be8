"""What benchmarks/sorting.py sorts and is sorted against: recordings it writes itself, variants, the upper bound."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import huidurep

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def benchmarks():
    sys.path.append(str(BENCHMARKS))
    try:
        import made_recordings
        import sorting
        import sorting_variants

        yield made_recordings, sorting, sorting_variants
    finally:
        sys.path.remove(str(BENCHMARKS))


@pytest.fixture(scope="module")
def simulated():
    return huidurep.simulate_recording(num_units=3, duration_s=12.0, amplitude_range_uv=(120.0, 250.0), seed=4)


def test_what_is_written_is_read_back(benchmarks, simulated, tmp_path):
    made_recordings, sorting, _ = benchmarks
    recording, truth = simulated
    made_recordings.write(recording, truth, tmp_path / "tet_s4", drifting=12.0)
    read, read_truth, peak_uv, drifting = sorting.load_truth(tmp_path / "tet_s4")
    assert drifting and read.get_dtype() == "int16"
    rounding_uv = 0.5 * made_recordings.GAIN_UV + 1e-4
    np.testing.assert_allclose(read.get_traces(return_in_uV=True), recording.get_traces(), rtol=0, atol=rounding_uv)
    assert (read.get_channel_locations() == recording.get_channel_locations()).all()
    assert (read_truth.to_spike_vector() == truth.to_spike_vector()).all()
    assert peak_uv.tolist() == pytest.approx(truth.get_property("peak_uv").tolist())
    assert sorting.wanted(tmp_path, None) == [tmp_path / "tet_s4"]


def test_listed_recordings_are_those_of_the_results(benchmarks):
    """Every recording behind the published table can be made by a command of this repository."""
    made_recordings, *_ = benchmarks
    listed = {
        f"{name}_s{seed}" for kind in made_recordings.SEEDS.values() for name, seeds in kind.items() for seed in seeds
    }
    assert set(json.loads((BENCHMARKS / "results/sorting.json").read_text())["recordings"]) <= listed


def test_the_true_templates_find_nearly_everything(benchmarks, simulated):
    _, sorting, variants = benchmarks
    recording, truth = simulated
    found = sorting.score(truth, variants.sort_variant("true-templates", recording, truth, model="auto", seed=0))
    assert found["accuracy"] > 0.9 and found["units_found"] == 3 and found["false_positive_units"] == 0


@pytest.mark.parametrize(
    "variant",
    ["huidurep-pca", "huidurep-no-motion", "huidurep-no-following", "huidurep-no-matching", "huidurep-matched-filter"],
)
def test_variants_sort(benchmarks, simulated, variant):
    _, sorting, variants = benchmarks
    recording, truth = simulated
    found = sorting.score(truth, variants.sort_variant(variant, recording, truth, model="tetrode", seed=0))
    assert found["well_detected"] >= 2


def test_the_number_of_units_is_that_of_the_truth(benchmarks, simulated):
    *_, variants = benchmarks
    for variant in ("huidurep-known-k", "huidurep-paper"):
        assert variants.sort_variant(variant, *simulated, model="tetrode", seed=0).get_num_units() == 3


def test_components_of_a_place_are_those_of_its_first_spikes(benchmarks):
    *_, variants = benchmarks
    encoder = variants.PcaEncoder(huidurep.HuiduRep.from_pretrained("tetrode"), seed=0)
    rng = np.random.default_rng(0)
    first, place = rng.normal(size=(100, 9, 4)), np.zeros((4, 2))
    made = encoder.embed(first, channel_positions=place)
    assert made.shape == (100, variants.PCA_COMPONENTS) == (100, encoder.config.embedding_size)
    encoder.embed(10 * rng.normal(size=(100, 9, 4)), channel_positions=place + 1)
    assert encoder.embed(first[:5], channel_positions=place) == pytest.approx(made[:5], abs=1e-4)
