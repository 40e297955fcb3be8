"""``import huidurep`` makes the models known to transformers' Auto classes and pipelines, without importing torch.

transformers has no entry points for models. Importing it takes seconds, so that its modules are not imported here: a
finder in ``sys.meta_path`` waits until the Auto classes or the pipelines are imported and registers the models then.
"""

import importlib
import importlib.machinery
import sys
from types import ModuleType
from typing import Any

MODELS = "transformers.models.auto.modeling_auto"
PIPELINES = "transformers.pipelines"
# Module of transformers -> the module of this package whose import registers with it.
REGISTERS = {MODELS: "huidurep.models.modeling_pretraining", PIPELINES: "huidurep.integrations.transformers_pipeline"}
# The models cannot be imported while one of these is half imported.
NEEDED = (MODELS, "transformers.modeling_layers", "huidurep.models.modeling_huidurep", REGISTERS[MODELS])


class _Finder:
    """Finds no module by itself; it notices when a module of transformers has been imported."""

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> Any:
        if name not in (*NEEDED, PIPELINES):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            register_models(finished=name)

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


def register_models(finished: str | None = None) -> None:
    """Register with those parts of transformers that this process has imported.

    Parameters
    ----------
    finished : str, optional
        Module whose code has just run, which Python still counts as half imported.
    """
    half_imported = {name for name in (*NEEDED, PIPELINES) if _is_half_imported(name)} - {finished}
    for theirs, ours in REGISTERS.items():
        if theirs in sys.modules and not half_imported & {*NEEDED, theirs}:
            try:
                importlib.import_module(ours)
            except Exception as error:  # the import that the user asked for must not fail because of this
                import logging  # imported here: it is most of the time that importing the package takes

                logging.getLogger(__name__).warning("transformers does not know HuiduRep: %s", error)


def _is_half_imported(name: str) -> bool:
    return getattr(getattr(sys.modules.get(name), "__spec__", None), "_initializing", False)


def watch_transformers() -> None:
    """Register now and whenever more of transformers is imported. Called once, by the package."""
    sys.meta_path.insert(0, _Finder())
    register_models()
