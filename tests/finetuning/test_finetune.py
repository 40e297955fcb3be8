"""`huidurep.finetune`: what it writes, what it refuses, and that it leaves no incomplete folder."""

import copy
import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from huggingface_hub import ModelCard
from spikeinterface.core import NumpySorting
from stand_in import TETRODE_UM, as_recording, planted

import huidurep
from huidurep.finetuning import checkpoint_folder as finetuning_folder
from huidurep.finetuning import embedding_evaluation as evaluation
from huidurep.finetuning import finetune as finetuning
from huidurep.finetuning import recording_data as finetuning_data
from huidurep.finetuning import sorting_evaluation
from huidurep.finetuning import train as training
from huidurep.finetuning.settings import (
    EmbeddingEvaluationSettings,
    FinetuningSettings,
    SortingEvaluationSettings,
    TrainingSettings,
)

SMALL = dict(hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, embedding_size=8)
FILES = {
    "README.md",
    "config.json",
    "fingerprint.safetensors",
    "finetuning.json",
    "model.safetensors",
    "sorting_parameters.json",
}


QUICK = FinetuningSettings(
    training=TrainingSettings(num_simulated_units=4, batch_size=8),
    embedding_evaluation=EmbeddingEvaluationSettings(num_draws=2, spikes_per_unit=20),
    sorting_evaluation=SortingEvaluationSettings(num_recordings=2, duration_s=3.0),
)
KEPT = replace(QUICK, keep_trained_weights=True)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """Folder of a small model with sorting parameters of its own."""
    folder = tmp_path_factory.mktemp("model") / "small"
    torch.manual_seed(0)
    huidurep.HuiduRep(huidurep.HuiduRepConfig(**SMALL)).save_pretrained(folder)
    (folder / "sorting_parameters.json").write_text('{"max_dimensions": 6}')
    return folder


@pytest.fixture(scope="module")
def recorded():
    """(recording, its units): 12 s of a tetrode with three units."""
    traces, samples, labels = planted(duration_s=12.0, noise_uv=8.0)
    sorting = NumpySorting.from_samples_and_labels([samples], [labels], 30000.0)
    return as_recording(traces, positions_um=TETRODE_UM), sorting


@pytest.fixture(scope="module")
def finished(model, recorded, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetune") / "out"
    options = dict(model=model, sortings=recorded[1], steps=1, seed=1, settings=KEPT)
    return huidurep.finetune(recorded[0], output_dir=folder, **options)


def test_the_folder_is_a_checkpoint_that_sorts(finished, recorded, model):
    folder = finished.folder
    assert {path.name for path in folder.iterdir()} == FILES
    assert [path.name for path in folder.parent.iterdir()] == ["out"]  # no partial folder
    pipeline = huidurep.SpikeSortingPipeline.from_pretrained(folder)
    assert pipeline.parameters.max_dimensions == 6
    assert huidurep.sort(recorded[0].frame_slice(0, 60000), model=folder).get_num_units() >= 1
    assert huidurep.HuiduRep.from_pretrained(model).config.to_dict().keys() == pipeline.model.config.to_dict().keys()


def test_report_and_facts(finished):
    assert finished.outcome in str(finished) and finished.weights == "new" and "old weights" not in str(finished)
    assert finished.before.keys() == finished.after.keys()
    assert finished.before.keys() == {"adjusted_rand_index", *evaluation.SIGNS, "sorting_accuracy", *evaluation.DETAILS}
    assert "sorting_accuracy: " in str(finished) and "sortings" not in str(finished)
    facts = json.loads((finished.folder / "finetuning.json").read_text())
    assert facts["before"] == finished.before and facts["outcome"] == finished.outcome
    (described,) = facts["recordings"]
    assert described["units"] == "curated" and described["num_units"] == 3 and described["seconds"] == 12.0
    assert facts["settings"]["steps"] == 1 and "torch" in facts["versions"] and "commit" in facts
    json.dumps(finished.to_dict())


def test_card(finished):
    card = ModelCard.load(finished.folder / "README.md")
    assert card.data.license == "other" and card.data.library_name == "transformers"
    for words in ("Trained on", "| adjusted rand index |", "huidurep.sort(recording, model=", "| 12 | 4 | 30000 |"):
        assert words in card.text
    source = dict(name="tetrode", license="apache-2.0", base_model="tetrode", sorting_parameters={})
    facts = json.loads((finished.folder / "finetuning.json").read_text())
    for outcome, words in (("same", "no better than"), ("worse", "worse than")):
        card = ModelCard(finetuning_folder.make_card(facts | {"outcome": outcome}, source))
        assert card.data.base_model == "tetrode" and card.data.license == "apache-2.0"
        assert f"{words} `tetrode`" in card.text


def test_embedded_checkpoints_hand_on_their_licence():
    model = huidurep.HuiduRep.from_pretrained("tetrode")
    source = finetuning_folder.source_of("tetrode", model)
    assert source["license"] == "apache-2.0" and source["base_model"] == source["name"] == "tetrode"
    beside = Path(huidurep.__file__).parent / "checkpoints" / "tetrode" / "sorting_parameters.json"
    assert source["sorting_parameters"] == json.loads(beside.read_text()) != {}


def weights_of(folder):
    return huidurep.HuiduRep.from_pretrained(folder).state_dict()


def same_weights(first, second):
    first, second = weights_of(first), weights_of(second)
    return all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.fixture
def unevaluated(monkeypatch):
    """No embeddings are evaluated, and nothing is sorted."""
    for module, name, scores in (
        (evaluation, "EmbeddingEvaluation", {"draws": [0.5]}),
        (sorting_evaluation, "SortingEvaluation", {"sorting_accuracy": 0.5, "sortings": [0.5, 0.5]}),
    ):
        monkeypatch.setattr(module, name, Mock(return_value=Mock(score=Mock(return_value=scores))))


def test_same_seed_same_weights(finished, model, recorded, tmp_path, unevaluated):
    options = dict(model=model, sortings=[recorded[1]], steps=1, seed=1, settings=KEPT)
    again = huidurep.finetune([recorded[0]], output_dir=tmp_path / "out", **options)
    assert same_weights(again.folder, finished.folder) and not same_weights(again.folder, model)


@pytest.mark.parametrize("outcome", ["same", "worse"])
def test_weights_that_are_not_better_are_not_handed_out(outcome, model, recorded, tmp_path, monkeypatch, unevaluated):
    def train(given, *arguments, **options):
        trained = copy.deepcopy(given)
        torch.nn.init.zeros_(next(trained.parameters()))
        return trained, []

    monkeypatch.setattr(training, "train", train)
    monkeypatch.setattr(evaluation, "decide_outcome", lambda *_, **__: (outcome, 0.0, 0.01))
    settings = replace(QUICK, training=replace(QUICK.training, simulated_share=0.0))
    options = dict(model=model, sortings=[recorded[1]], settings=settings)
    report = huidurep.finetune([recorded[0]], output_dir=tmp_path / "out", **options)
    assert report.outcome == outcome and report.weights == "old" and "old weights" in str(report)
    assert {path.name for path in report.folder.iterdir()} == FILES and same_weights(report.folder, model)
    assert f"`{report.source}`: these are its weights" in (report.folder / "README.md").read_text()


class Sorter:
    """Sorts as a truth does; the last unit has low posteriors."""

    def __init__(self, sorting):
        self.sorting, self.parameters = sorting, huidurep.SortingParameters()
        self.model = huidurep.HuiduRep(huidurep.HuiduRepConfig(**SMALL))

    def __call__(self, recording, *, job_kwargs=None):
        sorting = self.sorting.frame_slice(0, recording.get_num_samples(0))
        vector = sorting.to_spike_vector()
        for name, values in (("snr", [9.0, 9.0, 9.0]), ("short_isi_fraction", [0.0] * 3)):
            sorting.set_property(name, values)
        sorting.set_property("main_channel_id", np.array(recording.channel_ids[[0, 2, 1]]))
        posteriors = np.where(vector["unit_index"] == 2, 0.3, 1.0)
        return huidurep.SortingResult(sorting, None, posteriors, self.parameters)


def test_confident_units_of_a_sorting_and_time_held_out(recorded):
    data = finetuning_data.read_recording_data(recorded[0], None, Sorter(recorded[1]), number=4, seed=0)
    (window,), (real,) = data.windows, data.held_out
    assert window.unit_ids == [0, 1] and window.recording == 4
    assert max(times.max() for times in window.times_s) < 9 and real.times_s.max() < 3  # of the last 3 s
    assert 3 < window.noise.std() < 5 and len(window.noise) > 30000  # of 8 uV, after the filter
    assert data.description["num_units_found"] == 3 and data.description["num_units"] == 2
    for unit, channel in zip(window.waveforms, (0, 2), strict=True):
        assert unit.mean(0).min(0).argmin() == channel
        assert abs(int(unit.mean(0)[:, channel].argmin()) - window.peak_index) <= 1


def test_units_that_a_curator_called_noise_are_not_trained_on(recorded):
    curated = recorded[1].select_units(recorded[1].unit_ids)
    curated.set_property("quality", ["good", "noise", "mua"])
    data = finetuning_data.read_recording_data(recorded[0], curated, Sorter(recorded[1]), number=0, seed=0)
    assert data.windows[0].unit_ids == [0, 2] and data.description["num_units_found"] == 3


def test_a_large_probe_gives_windows_of_neighbours_that_have_every_unit():
    footprints = np.zeros((4, 16))
    for unit, channel in enumerate((1, 6, 10, 14)):
        footprints[unit, channel - 1 : channel + 2] = (60, 150, 40)
    traces, samples, labels = planted(footprints_uv=footprints, num_channels=16, duration_s=6.0)
    column = np.stack([np.zeros(16), 40.0 * np.arange(16)], 1)
    recording = as_recording(traces, positions_um=column)
    sorting = NumpySorting.from_samples_and_labels([samples + 5], [labels], 30000.0)  # five samples late
    pipeline = Sorter(sorting)
    pipeline.model.config.num_channels = 8
    data = finetuning_data.read_recording_data(recording, sorting, pipeline, number=0, seed=0)
    assert {unit for window in data.windows for unit in window.unit_ids} == {0, 1, 2, 3}
    for window in data.windows:
        assert window.positions_um.shape == (8, 2)
        for unit in window.waveforms:
            trough = np.unravel_index(unit.mean(0).argmin(), unit.shape[1:])
            assert abs(int(trough[0]) - window.peak_index) <= 1


def test_segments_are_split_one_by_one(recorded):
    traces = recorded[0].get_traces()
    first, rest = finetuning_data.split_time(as_recording(traces[:40000], traces[:8000], positions_um=TETRODE_UM))
    assert [first.get_num_samples(index) for index in range(2)] == [30000, 6000]
    assert [rest.get_num_samples(index) for index in range(2)] == [10000, 2000]


def refuse(match, recordings, output_dir, error=ValueError, **options):
    with pytest.raises(error, match=match):
        huidurep.finetune(recordings, output_dir=output_dir, **options)
    assert not list(Path(output_dir).parent.glob(f".{Path(output_dir).name}.*"))  # no partial folder


def test_bad_input(recorded, model, tmp_path, caplog):
    recording, sorting = recorded
    out, options = tmp_path / "out", dict(model=model, steps=1)
    refuse("at least one recording", [], out)
    refuse("SpikeInterface recording", [1], out, TypeError)
    refuse("steps", recording, out, model=model, steps=0)
    with pytest.raises(ValueError, match="simulated_share"):
        TrainingSettings(simulated_share=1.0)
    refuse("one sorting", recording, out, sortings=[sorting, sorting])
    refuse("SpikeInterface sorting", recording, out, TypeError, sortings="x")
    refuse("no such|none of the|expected a local folder", recording, out, OSError, model="nosuch")
    traces = recording.get_traces()
    broken = traces[:60000].copy()
    broken[5, 2] = np.nan
    refuse("finite", as_recording(broken, positions_um=TETRODE_UM), out, **options)
    refuse("probe", as_recording(np.tile(traces[:60000], (1, 2))), out, **options)
    column = as_recording(np.tile(traces[:60000], (1, 2)), positions_um=np.arange(16).reshape(8, 2) * 20)
    refuse("one kind of probe", [recording, column], out, **options)
    short = recording.frame_slice(0, 60000)
    few = sorting.frame_slice(0, 60000)
    refuse("3 confident units.*0 of 3", short, out, sortings=few, **options)
    assert "after the end" not in caplog.text
    refuse("3 confident units", short, out, sortings=sorting, **options)  # of a longer recording
    num_late = (sorting.to_spike_vector()["sample_index"] >= 60000).sum()
    assert f"{num_late} spikes are after the end of their recording" in caplog.text
    assert not out.exists()


def test_the_folder_must_not_be_in_use(recorded, tmp_path):
    (tmp_path / "thesis.tex").touch()
    refuse("empty or new", recorded[0], tmp_path, FileExistsError)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_channels_told_apart_by_number_are_refused_where_they_do_not_fit(recorded):
    config = huidurep.HuiduRepConfig(**SMALL, channel_mixing="index", num_channels=2)
    with pytest.raises(ValueError, match="at most 2 contacts"):
        finetuning._open(huidurep.HuiduRep(config), [recorded[0]], 0)
