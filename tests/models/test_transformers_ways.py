"""Ways of transformers and torch that the models follow."""

import json
import logging

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForPreTraining, Trainer, TrainingArguments

import huidurep
from huidurep import HuiduRep, HuiduRepConfig, HuiduRepForPreTraining
from huidurep.models import modeling_pretraining

SMALL = dict(hidden_size=32, num_hidden_layers=1, intermediate_size=32, embedding_size=16, spatial_size=8)
WAVEFORMS = np.random.default_rng(0).normal(0, 30, (20, 60, 4)).astype("float32")


def pairs(num_units, with_labels):
    views = 30 * torch.randn(num_units, 2, 90, 4, generator=torch.Generator().manual_seed(0))
    made = [dict(view_1=view_1, view_2=view_2) for view_1, view_2 in views]
    return [{**pair, "labels": unit // 2} for unit, pair in enumerate(made)] if with_labels else made


def trainer(model, folder, **options):
    options = dict(max_steps=3, use_cpu=True, report_to=[], disable_tqdm=True, learning_rate=1e-3) | options
    data = options.pop("data", None) or pairs(16, with_labels=False)
    return Trainer(model, TrainingArguments(str(folder), **options), train_dataset=data, eval_dataset=data)


@pytest.mark.parametrize("optimizer", ["adamw_torch", "adamw_torch_fused"])
def test_momentum_branch_moves_under_a_plain_trainer(tmp_path, optimizer):
    torch.manual_seed(0)
    model = HuiduRepForPreTraining(HuiduRepConfig(**SMALL, contrastive_weight=1.0, momentum=0.5))
    before = model.momentum_reduction.weight.clone()
    trainer(model, tmp_path, optim=optimizer, save_strategy="no").train()
    momentum, encoder = model.momentum_reduction.weight - before, model.huidurep.reduction.weight - before
    assert 0.1 * encoder.abs().max() < momentum.abs().max() < encoder.abs().max()


def test_momentum_branch_follows_steps_and_nothing_else():
    model = HuiduRepForPreTraining(HuiduRepConfig(**SMALL, contrastive_weight=1.0, momentum=0.5)).train()
    views = torch.randn(2, 4, 90, 4)

    def moved():
        before = model.momentum_reduction.weight.clone()
        model(*views)
        return not torch.equal(model.momentum_reduction.weight, before)

    with torch.no_grad():
        model.huidurep.reduction.weight += 0.1  # before training, as loading does
        assert not moved() and not moved()
        model.huidurep.reduction.weight += 0.1
        model.eval()
        assert not moved()
        model.train()
        assert moved() and not moved()
        model.huidurep.reduction.weight += 0.1
        model.update_momentum()  # as HuiduRepTrainer does
        assert not moved()


@pytest.mark.parametrize("with_labels", [False, True])
def test_evaluation_gives_a_loss(tmp_path, with_labels):
    model = HuiduRepForPreTraining(HuiduRepConfig(**SMALL, return_dict=False))
    seen = []
    model.register_forward_pre_hook(lambda module, args, options: seen.append(options), with_kwargs=True)
    options = dict(eval_strategy="steps", eval_steps=2, save_steps=2, load_best_model_at_end=True, max_steps=2)
    made = trainer(model, tmp_path, data=pairs(16, with_labels), **options)
    made.train()
    assert made.evaluate()["eval_loss"] > 0
    assert all(("labels" in each) is with_labels for each in seen)


def test_no_loss_and_tuples_on_request():
    model, views = HuiduRepForPreTraining(HuiduRepConfig(**SMALL)), torch.randn(2, 4, 90, 4)
    output = model(*views, return_loss=False)
    assert output.loss is None and output.embeddings.shape == (4, 16)
    assert model(*views, return_dict=False)[0].shape == ()


def test_pretraining_class_opens_an_encoder(caplog):
    folder = huidurep.list_checkpoints()["tetrode"]
    encoder = HuiduRep.from_pretrained(folder)
    with caplog.at_level(logging.WARNING, logger="huidurep"):
        model = AutoModelForPreTraining.from_pretrained(folder, contrastive_weight=1.0)
    assert "newly initialised" in caplog.text and model.config.contrastive_weight == 1.0
    for name, tensor in encoder.state_dict().items():
        assert torch.equal(model.huidurep.state_dict()[name], tensor)
    for momentum, trained in model.momentum_pairs():
        for p_old, p_new in zip(momentum.parameters(), trained.parameters(), strict=True):
            assert torch.equal(p_old, p_new) and not p_old.requires_grad
    assert all(torch.isfinite(each).all() for each in model.parameters())


def test_pretraining_class_refuses_a_part_of_its_heads(tmp_path):
    HuiduRepForPreTraining(HuiduRepConfig(**SMALL)).save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["predictor.0.weight"]
    save_file(weights, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(ValueError, match="predictor.0.weight"):
        HuiduRepForPreTraining.from_pretrained(tmp_path)


def test_settings_as_keywords():
    assert HuiduRep.from_pretrained("tetrode", hidden_dropout_prob=0.1).encoder.layers[0].dropout == 0.1
    model = HuiduRep.from_pretrained("tetrode", output_hidden_states=True, return_dict=False)
    assert any(isinstance(each, tuple) for each in model(torch.zeros(1, 90, 4)))
    assert np.array_equal(model.embed(WAVEFORMS), HuiduRep.from_pretrained("tetrode").embed(WAVEFORMS))
    assert model.denoise(WAVEFORMS).shape == WAVEFORMS.shape
    with pytest.raises(TypeError, match="hidden_dropout"):
        HuiduRep.from_pretrained("tetrode", hidden_dropout=0.1)
    with pytest.raises(ValueError, match="fixed input"):
        HuiduRep.from_pretrained("tetrode", scale_uv=5.0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_any_precision(dtype):
    model = HuiduRep.from_pretrained("tetrode")
    tensor = torch.from_numpy(WAVEFORMS).to(dtype).requires_grad_()
    expected = model.embed(tensor.detach().float().numpy(), batch_size=np.int64(7))
    assert np.allclose(model.embed(tensor), expected, atol=1e-3)
    assert model.denoise(tensor).shape == WAVEFORMS.shape
    assert np.allclose(huidurep.SpikeEmbedder("tetrode").fit_transform(tensor), expected, atol=1e-3)


def test_embedding_within_training_in_mixed_precision(tmp_path):
    model = HuiduRep.from_pretrained("tetrode", hidden_dropout_prob=0.5)
    expected = model.embed(WAVEFORMS)
    plain = model.forward
    model.forward = lambda *args, **options: plain(*args, **options)  # as accelerate does
    assert np.array_equal(model.train().embed(WAVEFORMS), expected)
    assert model.training


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "8"])
def test_impossible_batch_sizes(batch_size):
    with pytest.raises(ValueError, match="batch_size"):
        HuiduRep.from_pretrained("tetrode").embed(WAVEFORMS, batch_size=batch_size)


@pytest.mark.filterwarnings("ignore")  # torch announces a successor of this function
def test_dynamic_quantisation():
    model = HuiduRep.from_pretrained("tetrode")
    quantised = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
    expected = model.embed(WAVEFORMS)
    assert np.corrcoef(quantised.embed(WAVEFORMS).ravel(), expected.ravel())[0, 1] > 0.99
    assert np.array_equal(quantised.train().embed(WAVEFORMS), quantised.eval().embed(WAVEFORMS))


def test_companions_of_earlier_weights_are_set_aside(tmp_path, caplog):
    HuiduRep.from_pretrained("tetrode").save_pretrained(tmp_path)
    card = (tmp_path / "README.md").read_text()
    (tmp_path / "notes.txt").write_text("mine")
    model = HuiduRep.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)  # the same weights
    assert (tmp_path / "README.md").read_text() == card and not (tmp_path / "earlier_weights").exists()
    for _ in range(2):
        with torch.no_grad():
            model.reduction.weight += 0.05
        model.save_pretrained(tmp_path)
    assert "earlier_weights" in caplog.text
    assert (tmp_path / "earlier_weights/README.md").read_text() == card
    assert (tmp_path / "earlier_weights/training.json").is_file() and not (tmp_path / "training.json").exists()
    assert not (tmp_path / "earlier_weights_2").exists()  # what was written since says nothing of any weights
    assert json.loads((tmp_path / "sorting_parameters.json").read_text()) == {}
    assert "trained further" in (tmp_path / "README.md").read_text()
    assert (tmp_path / "notes.txt").is_file()
    HuiduRep.from_pretrained(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(labels=["a"] * 4), r"labels as a tensor \(4,\), .* found list"),
        (dict(labels=torch.zeros(3)), r"labels as a tensor \(4,\), .* found \(3,\)"),
        (dict(recordings=torch.zeros(4, 1)), "recordings as a tensor"),
        (dict(view_2=torch.randn(3, 90, 4)), r"view_2 as a tensor \(4, 90, 4\), .* found \(3, 90, 4\)"),
        (dict(clean=torch.randn(4, 60, 4)), "clean as a tensor"),
    ],
)
def test_parts_of_a_batch_that_do_not_belong_together_are_refused(change, words):
    batch = dict(view_1=torch.randn(4, 90, 4), view_2=torch.randn(4, 90, 4)) | change
    with pytest.raises(ValueError, match=words):
        HuiduRepForPreTraining(HuiduRepConfig(**SMALL))(**batch)


def test_a_batch_of_one_unit_is_named(monkeypatch):
    said = []
    monkeypatch.setattr(modeling_pretraining.logger, "warning_once", said.append)
    model = HuiduRepForPreTraining(HuiduRepConfig(**SMALL))
    model(torch.randn(2, 90, 4), torch.randn(2, 90, 4))
    assert not said
    assert model(torch.randn(1, 90, 4), torch.randn(1, 90, 4)).loss == 0
    assert said == [modeling_pretraining.ONE_UNIT]


def test_other_files_than_safetensors_are_refused():
    with pytest.raises(ValueError, match="use_safetensors=False for tetrode"):
        HuiduRep.from_pretrained("tetrode", use_safetensors=False)
    assert HuiduRep.from_pretrained("tetrode", use_safetensors=True).config.num_channels == 4
