"""Auto classes and pipelines of transformers know the models after `import huidurep`, in any order."""

import os
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
    "huidurep first": ("import huidurep", AUTO),
    "transformers first": (AUTO, "import huidurep"),
    "another model in between": ("import huidurep", "from transformers import BertModel", AUTO),
    "another model first": ("from transformers import BertModel", "import huidurep", AUTO),
    "our model first": ("from huidurep.models.modeling_pretraining import HuiduRepForPreTraining", AUTO),
    "pipelines first": ("import huidurep", "from transformers import pipeline", AUTO),
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


# One process imports what transformers does, which takes most of the time, and forks one for each order, its words on
# stderr.
RUN_EACH = """
import os, sys, traceback
import sklearn.metrics, torch._dynamo, torch.distributed.checkpoint, huggingface_hub.hf_api
assert "transformers" not in sys.modules
for order in sys.argv[2:]:
    if not (child := os.fork()):
        try:
            exec(order)
            status = 0
        except BaseException:
            traceback.print_exc()
            status = 1
        sys.stderr.flush()
        os._exit(status)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        sys.exit(f"in the order {order}")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_auto_classes_know_the_models():
    programs = ["\n".join(order) + USE for order in ORDERS.values()]
    run = subprocess.run([sys.executable, "-c", RUN_EACH, str(TETRODE), *programs], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert "does not know HuiduRep" not in run.stderr


def test_pipeline_sorts_as_the_package_does(tetrode_recording):
    from transformers import pipeline

    recording = tetrode_recording[0].frame_slice(0, 180000)
    sorter = pipeline("spike-sorting", model=str(TETRODE), min_unit_spikes=20)
    result = sorter(recording)
    expected = huidurep.SpikeSortingPipeline.from_pretrained("tetrode", min_unit_spikes=20)(recording)
    assert result.parameters == expected.parameters and result.parameters.max_dimensions == 12  # beside the weights
    assert np.array_equal(result.sorting.to_spike_vector(), expected.sorting.to_spike_vector())
    assert sorter(recording, num_units=2).parameters.num_units == 2
    with pytest.raises(TypeError, match="num_wings"):
        sorter(recording, num_wings=2)


def test_pipeline_without_a_model_has_one_for_any_probe():
    from transformers import pipeline

    assert pipeline("spike-sorting").model.name_or_path == str(huidurep.list_checkpoints()["base"])
