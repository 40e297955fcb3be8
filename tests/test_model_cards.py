"""Cards are tested documents: each embedded checkpoint's card has the template's sections, filled."""

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import huidurep

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "model_cards" / "TEMPLATE.md"
GENERATOR = ROOT / "model_cards" / "make_cards.py"
CHECKPOINTS = huidurep.list_checkpoints()


def sections_of(text):
    return re.findall(r"^## (.+)$", text, flags=re.MULTILINE)


def test_template_makes_a_card_the_hub_accepts():
    pytest.importorskip("jinja2")
    from huggingface_hub import ModelCard, ModelCardData

    fields = set(re.findall(r"{{ (\w+) }}", TEMPLATE.read_text(encoding="utf8"))) - {"card_data"}
    data = ModelCardData(license="apache-2.0", library_name="transformers", tags=["spike-sorting"])
    card = ModelCard.from_template(data, template_path=str(TEMPLATE), **{field: f"<{field}>" for field in fields})
    assert card.data.license == "apache-2.0"
    assert all(f"<{field}>" in card.text for field in fields)
    assert sections_of(card.text) == sections_of(TEMPLATE.read_text(encoding="utf8"))


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_card_of_embedded_checkpoint_is_complete(name):
    from huggingface_hub import ModelCard

    card = ModelCard.load(CHECKPOINTS[name] / "README.md")
    assert card.data.license and card.data.library_name and card.data.tags
    assert sections_of(card.text) == sections_of(TEMPLATE.read_text(encoding="utf8"))
    assert "{{" not in card.text and "}}" not in card.text
    empty_rows = re.findall(r"^\| [^|]+ \|\s*\|$", card.text, flags=re.MULTILINE)
    assert not empty_rows


def test_cards_are_what_the_generator_makes():
    pytest.importorskip("jinja2")
    run = subprocess.run([sys.executable, str(GENERATOR), "--check"], capture_output=True, text=True)
    assert run.returncode == 0, f"{run.stderr}\nrun `python model_cards/make_cards.py`"


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_facts_agree_with_the_checkpoint(name):
    facts = json.loads((ROOT / "model_cards" / f"{name}.json").read_text(encoding="utf8"))
    settings = CHECKPOINTS[name] / "pretraining.json"
    if settings.exists():
        assert facts["seed"] == json.loads(settings.read_text(encoding="utf8"))["seed"]


def results_of(tmp_path, with_sorting):
    """Two rows of embeddings, on the second of which PCA does better, and a recording with a small unit."""
    basics = dict(num_units=10, num_spikes=1000, num_draws=2, standard_error=dict(huidurep=0.04, pca24=0.03))
    means = {"quiet": dict(huidurep=0.91, pca24=0.72), "loud": dict(huidurep=0.33, pca24=0.48)}
    rows = [dict(basics, source="cells", name=name, mean=mean) for name, mean in means.items()]
    header = dict(seed=7, commit="abc123", settings=dict(model="tetrode"))
    labels = dict(huidurep="HuiduRep", pca24="PCA, 24 components")
    measured = dict(header=header, methods=list(labels), method_labels=labels, rows=rows)
    (tmp_path / "embedding.json").write_text(json.dumps(measured))
    if with_sorting:
        units = [dict(accuracy=0.95, snr=9.0), dict(accuracy=0.0, snr=3.0)]
        row = dict(recording="rec", sorter="huidurep", model="auto", commit="abc123", accuracy=0.475, precision=0.5)
        row |= dict(recall=0.49, units_found=1, units_true=2, well_detected=1, units=units)
        peers = [
            dict(row, sorter="lupin", model=None, accuracy=0.61),
            dict(recording="rec", sorter="b", model=None, error="x"),
        ]
        sorted_ = dict(header=header, recordings=dict(rec=dict(num_channels=4)), rows=[row, *peers])
        (tmp_path / "sorting.json").write_text(json.dumps(sorted_))
    return tmp_path


def make_card(results):
    spec = importlib.util.spec_from_file_location("make_cards", GENERATOR)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    facts = json.loads((ROOT / "model_cards" / "tetrode.json").read_text(encoding="utf8"))
    return module.make_card("tetrode", facts, CHECKPOINTS["tetrode"], results)


@pytest.mark.parametrize("with_sorting", [True, False])
def test_planted_results_stand_in_the_card(tmp_path, with_sorting):
    pytest.importorskip("jinja2")
    from huggingface_hub import ModelCard

    card = ModelCard(make_card(results_of(tmp_path, with_sorting)))
    found = {result.dataset_config: result for result in card.data.eval_results}
    assert found["quiet"].metric_value == 0.91 and found["loud"].metric_value == 0.33
    assert found["loud"].metric_args == dict(seed=7, commit="abc123")
    assert "| cells: quiet | 10 units, 2 draws | 0.91 ± 0.04 | 0.72 ± 0.03 | 7 | abc123 |" in card.text
    assert "1 of 2 rows: cells: loud (0.33 against 0.48)" in card.text
    assert ("0.61 (lupin)" in card.text) == with_sorting
    assert ("below 4: 0 of 1; from 4 to 6: 0 of 0; from 6: 1 of 1" in card.text) == with_sorting


def test_results_of_another_model_are_refused(tmp_path):
    pytest.importorskip("jinja2")
    path = results_of(tmp_path, with_sorting=False) / "embedding.json"
    path.write_text(path.read_text().replace('"tetrode"', '"none"'))
    with pytest.raises(ValueError, match="expected results of the model 'tetrode'.*found those of 'none'"):
        make_card(tmp_path)
