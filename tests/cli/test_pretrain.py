"""`huidurep pretrain`."""

import json

import pytest
from command_line import assert_refused, run


def test_pretrain_refuses_settings_it_cannot_read(tmp_path):
    def pretrain(config):
        return run("pretrain", "--config", tmp_path / config, "--output", tmp_path / "out")

    assert_refused(pretrain("none.json"), "none.json")
    (tmp_path / "list.json").write_text("[1, 2]")
    assert_refused(pretrain("list.json"), "list.json", "found list")
    (tmp_path / "broken.yaml").write_text("seed: [")
    assert_refused(pretrain("broken.yaml"), "broken.yaml")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").touch()
    assert_refused(pretrain("broken.yaml"), "empty")


def test_yaml_settings_and_data_wait_share(tmp_path, monkeypatch):
    def train(settings, output):
        (output / "run").mkdir(parents=True)
        history = [{"loss": 1.0, "step": 7}, {"train_runtime": 12.3, "data_wait_share": 0.25, "step": 8}]
        (output / "run" / "trainer_state.json").write_text(json.dumps({"log_history": history}))
        (output / "seen.json").write_text(json.dumps(settings))
        return output

    pytest.importorskip("torch")
    monkeypatch.setattr("huidurep.training.pretrain.pretrain", train)
    (tmp_path / "settings.yaml").write_text("seed: 3\ntraining:\n  max_steps: 8\n  learning_rate: 1e-3\n")
    result = run("pretrain", "--config", tmp_path / "settings.yaml", "--output", tmp_path / "out")
    assert result.exit_code == 0, result.output
    seen = json.loads((tmp_path / "out" / "seen.json").read_text())
    assert seen == {"seed": 3, "training": {"max_steps": 8, "learning_rate": 0.001}}
    for token in ("step 8", "12 s", "25 %"):
        assert token in result.stdout
