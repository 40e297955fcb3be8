"""AutoConfig, AutoModel and pipeline of transformers learn of the models, without being imported for it.

transformers has no entry points for models: they are registered with its classes, which takes an import of seconds. So
a finder stands in ``sys.meta_path`` and registers once the modules concerned are there anyway.
"""

import importlib.machinery
import sys

CONFIGURATIONS = "transformers.models.auto.configuration_auto"
MODELS = "transformers.models.auto.modeling_auto"
PIPELINES = "transformers.pipelines"
# Each may import those below it; while one of them is half imported, the models cannot be imported.
MODEL_MODULES = (
    "huidurep.models.modeling_pretraining",
    "huidurep.models.modeling_huidurep",
    "transformers.modeling_layers",
    MODELS,
)
WATCHED = (CONFIGURATIONS, *MODEL_MODULES, PIPELINES)


class _Watcher:
    """Finder that finds nothing by itself: it has what others find report that it was imported."""

    def __init__(self):
        self.imported = {name for name in WATCHED if name in sys.modules}
        self.registered = set()

    def find_spec(self, name, path=None, target=None):
        """Spec of a watched module, as Python's own finder has it, with our step after its execution."""
        if name not in WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module):
            execute(module)
            self.imported.add(name)
            self.register()

        spec.loader.exec_module = execute_and_register
        return spec

    def register(self):
        """Register what can be by now; a failure is told, but it is not to break the import it happens in."""
        steps = {
            CONFIGURATIONS: (register_configuration, (CONFIGURATIONS,)),
            MODELS: (register_models, MODEL_MODULES),
            PIPELINES: (register_pipeline, (PIPELINES,)),
        }
        for name, (step, needed) in steps.items():
            half_imported = any(each in sys.modules and each not in self.imported for each in needed)
            if name in self.imported and name not in self.registered and not half_imported:
                self.registered.add(name)
                try:
                    step()
                except Exception as error:
                    import logging  # here only: it would be most of what importing the package takes

                    logging.getLogger(__name__).warning("transformers will not know HuiduRep (%s)", error)
        if len(self.registered) == len(steps) and self in sys.meta_path:
            sys.meta_path.remove(self)


def register_configuration():
    """Let ``AutoConfig`` know HuiduRepConfig."""
    from transformers import AutoConfig

    from ..models.configuration_huidurep import HuiduRepConfig

    AutoConfig.register(HuiduRepConfig.model_type, HuiduRepConfig, exist_ok=True)


def register_models():
    """Let ``AutoModel`` and ``AutoModelForPreTraining`` know the models."""
    from transformers import AutoModel, AutoModelForPreTraining

    from ..models.configuration_huidurep import HuiduRepConfig
    from ..models.modeling_huidurep import HuiduRep
    from ..models.modeling_pretraining import HuiduRepForPreTraining

    AutoModel.register(HuiduRepConfig, HuiduRep, exist_ok=True)
    AutoModelForPreTraining.register(HuiduRepConfig, HuiduRepForPreTraining, exist_ok=True)


def register_pipeline():
    """Let ``pipeline`` know the task "spike-sorting"."""
    from transformers import AutoModel
    from transformers.pipelines import PIPELINE_REGISTRY

    from .transformers_pipeline import TASK, TransformersSpikeSorting

    PIPELINE_REGISTRY.register_pipeline(TASK, pipeline_class=TransformersSpikeSorting, pt_model=AutoModel)


def watch_imports():
    """Register now what can be, and the rest when transformers is imported. Called once, by the package."""
    watcher = _Watcher()
    sys.meta_path.insert(0, watcher)
    watcher.register()
