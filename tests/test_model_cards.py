"""Cards are tested documents: each embedded checkpoint's card has the template's sections, filled."""

import re
from pathlib import Path

import pytest

import huidurep

ROOT = Path(__file__).parents[1]
TEMPLATE = ROOT / "model_cards" / "TEMPLATE.md"
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
