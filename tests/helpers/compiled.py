"""Keeps what numba compiles of SpikeInterface, which it compiles anew in each process for half a minute in all."""

from numba.core.dispatcher import Dispatcher

_make = Dispatcher.__init__


def _make_caching(dispatcher, py_func, *args, **kwargs):
    _make(dispatcher, py_func, *args, **kwargs)
    if py_func.__module__.startswith("spikeinterface."):
        dispatcher.enable_caching()


def keep_compiled():
    """Call it before SpikeInterface is imported."""
    Dispatcher.__init__ = _make_caching
