"""Auto classes and pipelines of transformers know the models, once huidurep has registered them."""

import subprocess
import sys

import numpy as np
import pytest

import huidurep
import huidurep.integrations.transformers_pipeline  # registers the task and the models

TETRODE = huidurep.list_checkpoints()["tetrode"]
AUTO = "from transformers import AutoConfig, AutoModel, AutoModelForPreTraining"
# What is imported, in this order.
ORDERS = {
    "transformers first": (AUTO, "import huidurep"),
    "a public name after transformers": ("import huidurep", AUTO, "huidurep.list_checkpoints()"),
    "another model in between": ("from transformers import BertModel", "import huidurep", AUTO),
    "registered by hand": ("import huidurep.integrations.transformers_pipeline", AUTO),
}
USE = """
import sys
config = AutoConfig.from_pretrained(sys.argv[1])
model = AutoModel.from_pretrained(sys.argv[1])
trained = AutoModelForPreTraining.from_config(config)
kinds = [f"{type(each).__module__}.{type(each).__name__}" for each in (config, model, trained)]
assert kinds == [
    "huidurep.models.configuration_huidurep.HuiduRepConfig",
    "huidurep.models.modeling_huidurep.HuiduRep",
    "huidurep.models.modeling_pretraining.HuiduRepForPreTraining",
], kinds
from transformers.pipelines import PIPELINE_REGISTRY
assert "spike-sorting" in PIPELINE_REGISTRY.get_supported_tasks()
"""


@pytest.mark.parametrize("order", ORDERS.values(), ids=ORDERS)
def test_auto_classes_know_the_models(order):
    command = [sys.executable, "-c", "\n".join(order) + USE, str(TETRODE)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_pipeline_sorts_as_the_package_does(tetrode_recording):
    from transformers import pipeline

    recording, _ = tetrode_recording
    sorter = pipeline("spike-sorting", model=str(TETRODE), min_unit_spikes=20)
    result = sorter(recording)
    expected = huidurep.SpikeSortingPipeline.from_pretrained("tetrode", min_unit_spikes=20)(recording)
    assert result.parameters == expected.parameters and result.parameters.max_dimensions == 12  # beside the weights
    assert np.array_equal(result.sorting.to_spike_vector(), expected.sorting.to_spike_vector())
    assert sorter(recording, num_units=2).parameters.num_units == 2
    with pytest.raises(TypeError, match="num_wings"):
        sorter(recording, num_wings=2)
