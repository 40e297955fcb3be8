"""Less for numba to compile: SpikeInterface's functions cost more than half a minute in each process."""

from importlib import import_module

from numba.core.dispatcher import Dispatcher

_make = Dispatcher.__init__


def _make_caching(dispatcher, py_func, *args, **kwargs):
    _make(dispatcher, py_func, *args, **kwargs)
    if py_func.__module__.startswith("spikeinterface."):
        dispatcher.enable_caching()


def keep_compiled():
    """Call it before SpikeInterface is imported."""
    Dispatcher.__init__ = _make_caching


def prefer_numpy():
    """What cannot be kept is computed by SpikeInterface's numpy functions: similarities and correlograms."""
    similarity, correlograms = (
        import_module(f"spikeinterface.postprocessing.{name}") for name in ("template_similarity", "correlograms")
    )
    similarity._compute_similarity_matrix = similarity._compute_similarity_matrix_numpy
    for kind in ("correlograms", "auto_correlograms"):
        compute = getattr(correlograms, f"_compute_{kind}_numpy")
        setattr(correlograms, f"_compute_{kind}_numba", _without_options(compute))


def _without_options(compute):
    return lambda sorting, window_size, bin_size, *_, **__: compute(sorting, window_size, bin_size)
