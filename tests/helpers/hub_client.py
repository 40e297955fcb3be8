"""What tests ask of a process whose `huggingface_hub` speaks to the Hub of hub_server.py: that client is unmodified.

The endpoint is read when the client is imported, so that the process of the tests, which is offline, cannot be told
another one. One process serves all tests, for importing torch takes seconds.
"""

import contextlib
import importlib
import io
import logging
import multiprocessing
import os
import pkgutil
import runpy
import sys
import traceback
from concurrent.futures import ProcessPoolExecutor
from unittest.mock import patch

SILENCE_LIMIT_S = 1


@contextlib.contextmanager
def client_process(endpoint, home):
    """A function that runs another one, of this module, in the process of the client."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    theirs = {
        "HF_ENDPOINT": endpoint,
        "HF_HOME": str(home),
        "HF_HUB_DISABLE_XET": "1",  # the real Hub's other way of transfer, which has a server of its own
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_ETAG_TIMEOUT": str(SILENCE_LIMIT_S),
        "NO_PROXY": "127.0.0.1",
    }
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        with patch.dict(os.environ, ours | theirs, clear=True):
            pool.submit(warm_up).result()
        yield lambda function, *args, **options: pool.submit(function, *args, **options).result(timeout=120)


_DONE = {"errors": {}, "downloads": []}


def _import(*names):
    """Connections are refused; what happens is kept for `import_all`."""
    before = set(os.listdir(os.environ["HF_HOME"]))
    with contextlib.ExitStack() as patches:
        for name in ("socket.connect", "socket.connect_ex", "create_connection", "getaddrinfo"):
            patches.enter_context(patch(f"socket.{name}", side_effect=AssertionError("a connection was tried")))
        for name in names:
            try:
                importlib.import_module(name)
            except Exception:
                _DONE["errors"][name] = traceback.format_exc()
    _DONE["downloads"] += set(os.listdir(os.environ["HF_HOME"])) - before


def warm_up():
    _import("transformers", "huidurep.models.modeling_huidurep")


def import_all():
    """How many modules the package has, the errors of their imports, and the files that these wrote."""
    import huidurep

    names = [each.name for each in pkgutil.walk_packages(huidurep.__path__, "huidurep.")]
    names.remove("huidurep.__main__")
    _import(*names)
    return {"modules": len(names)} | _DONE


class _Lines(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(f"{record.levelname} {record.getMessage()}")


@contextlib.contextmanager
def log_lines():
    """What the package logs."""
    handler, logger = _Lines(), logging.getLogger("huidurep")
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        yield handler.lines
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def load(name, **options):
    """(folder of a model that was loaded, sum of a weight, log)."""
    from huidurep import HuiduRep

    with log_lines() as lines:
        model = HuiduRep.from_pretrained(name, **options)
    return model.name_or_path, model.reduction.weight.sum().item(), lines


def load_pipeline(name, **options):
    """(sorting parameters, what the result will say of model and revision)."""
    from huidurep import SpikeSortingPipeline

    pipeline = SpikeSortingPipeline.from_pretrained(name, **options)
    return pipeline.parameters.to_dict(), pipeline.model_name, pipeline.model_revision


def push(folder, repo, *, scale=1.0, **options):
    """(commit, log) of a push_to_hub; with another scale, of other weights."""
    import torch

    from huidurep import HuiduRep

    model = HuiduRep.from_pretrained(folder)
    with torch.no_grad():
        model.reduction.weight.mul_(scale)
    with log_lines() as lines:
        info = model.push_to_hub(repo, **options)
    return info.oid, lines


def command(*words):
    """(exit code, stdout, stderr) of the command line."""
    from typer.testing import CliRunner

    from huidurep.cli.main import app

    result = CliRunner().invoke(app, [str(word) for word in words])
    logging.getLogger().handlers.clear()  # it wrote to the stderr that was captured
    return result.exit_code, result.stdout, result.stderr


def run_script(path, *words, **environment):
    """What a script prints."""
    printed = io.StringIO()
    with patch.dict(os.environ, environment), patch.object(sys, "argv", [str(path), *map(str, words)]):
        with contextlib.redirect_stdout(printed):
            runpy.run_path(str(path), run_name="__main__")
    return printed.getvalue()
