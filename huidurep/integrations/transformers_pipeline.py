"""``transformers.pipeline("spike-sorting", model=FOLDER)``: the sorting under transformers' roof."""

from transformers.pipelines import Pipeline

TASK = "spike-sorting"


class TransformersSpikeSorting(Pipeline):
    """Sorts one recording a call, as :class:`huidurep.SpikeSortingPipeline` does.

    transformers finds the model, loads it and puts it on a device. What its pipelines offer besides, batches of inputs
    that are independent of each other, has no meaning for the spikes of one recording.
    """

    _load_tokenizer = _load_feature_extractor = _load_image_processor = _load_processor = False

    def _sanitize_parameters(self, **parameters):
        return {}, {}, parameters

    def preprocess(self, recording):
        """Recording -> what :meth:`postprocess` takes."""
        return {"recording": recording}

    def _forward(self, inputs):
        return inputs

    def postprocess(self, outputs, **parameters):
        """Sort; here and not in the step before, for that one computes no gradients, which ``adapt=True`` needs.

        Parameters
        ----------
        outputs : dict
            From :meth:`preprocess`.
        **parameters
            Fields of ``SortingParameters``; they go before those of the checkpoint.

        Returns
        -------
        SortingResult
        """
        from ..pipeline import SpikeSortingPipeline

        name = self.model.name_or_path
        shipped = SpikeSortingPipeline.from_pretrained(name, **parameters)  # for the parameters beside the weights
        return SpikeSortingPipeline(self.model, shipped.parameters, name)(outputs["recording"])
