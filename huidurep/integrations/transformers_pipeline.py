"""``transformers.pipeline("spike-sorting", model=FOLDER)``. Importing this module registers task and models."""

from typing import Any

from transformers import AutoModel
from transformers.pipelines import PIPELINE_REGISTRY, Pipeline

from ..hub.embedded import list_checkpoints
from ..models import modeling_pretraining  # noqa: F401 - its import registers the models with the Auto classes

TASK = "spike-sorting"
DEFAULT_MODEL = "base"  # it accepts any probe; transformers loads the model before it sees a recording


class TransformersSpikeSorting(Pipeline):
    """Sorts one recording per call, as :class:`huidurep.SpikeSortingPipeline` does.

    transformers finds the model, loads it and puts it on a device. Batches of independent inputs, which its pipelines
    offer too, are not used: the spikes of a recording are sorted together.
    """

    _load_tokenizer: Any = False
    _load_feature_extractor: Any = False
    _load_image_processor: Any = False
    _load_processor: Any = False

    def _sanitize_parameters(self, **parameters: Any) -> tuple[dict, dict, dict]:
        return {}, {}, parameters

    def preprocess(self, input_: Any, **_: Any) -> dict[str, Any]:
        """Recording -> input of :meth:`postprocess`."""
        return {"recording": input_}

    def _forward(self, input_tensors: dict[str, Any], **_: Any) -> Any:
        return input_tensors

    def postprocess(self, model_outputs: Any, **parameters: Any) -> Any:
        """Sort.

        Parameters
        ----------
        model_outputs : dict
            From :meth:`preprocess`.
        **parameters
            Fields of ``SortingParameters``; they take precedence over those of the checkpoint.

        Returns
        -------
        SortingResult
        """
        from ..pipeline import SpikeSortingPipeline

        model: Any = self.model  # transformers loaded it by AutoModel: a HuiduRep
        name = model.name_or_path
        # reads the parameters beside the weights
        loaded = SpikeSortingPipeline.from_pretrained(name, device="cpu", **parameters)
        return SpikeSortingPipeline(model, loaded.parameters, name)(model_outputs["recording"])


PIPELINE_REGISTRY.register_pipeline(
    TASK,
    pipeline_class=TransformersSpikeSorting,
    pt_model=AutoModel,
    default={"model": (str(list_checkpoints().get(DEFAULT_MODEL, DEFAULT_MODEL)), "main")},
)
