"""What all tests share: one thread a library, no network, one small simulated tetrode recording."""

import gc
import os
import sys

# Before numpy, numba and torch are imported: each reads its number of threads once.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
os.environ["MPLBACKEND"] = "Agg"

import pytest  # noqa: E402
from browser import browser  # noqa: E402, F401
from compiled import keep_compiled, prefer_numpy  # noqa: E402

# Rooms with the longest files: `make test` begins with them, or one of its processes would end long after the other.
LONGEST = ("examples", "exporters", "house", "integrations", "clustering", "finetuning")


keep_compiled()
prefer_numpy()


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.parent.name not in LONGEST)


_num_frozen = 0


def pytest_runtest_setup():
    """SpikeInterface collects garbage after each chunk that it writes, half a second with all that tests import."""
    global _num_frozen
    if len(sys.modules) > _num_frozen + 50:
        _num_frozen = len(sys.modules)
        gc.collect()
        gc.freeze()


@pytest.fixture(scope="session")
def tetrode_recording():
    """(recording, true sorting): 10 s of a tetrode with four well separated units, uV. Do not change it in place."""
    import huidurep

    return huidurep.simulate_recording(probe="tetrode", num_units=4, duration_s=10.0, noise_uv=6.0, seed=3)


@pytest.fixture(scope="session")
def tetrode_folder(tetrode_recording, tmp_path_factory):
    """The same recording saved as a folder that spikeinterface.load opens."""
    folder = tmp_path_factory.mktemp("recording") / "tetrode"
    tetrode_recording[0].save(folder=folder, n_jobs=1, progress_bar=False)
    return folder


@pytest.fixture(scope="session")
def _hub_and_client(tmp_path_factory):
    from hub_client import client_process
    from hub_server import HubServer

    hub = HubServer()
    with client_process(hub.url, tmp_path_factory.mktemp("hub_home")) as client:
        yield hub, client
    hub.close()


@pytest.fixture
def hub(_hub_and_client):
    """A Hub on loopback that has seen nothing yet, hub_server.HubServer."""
    _hub_and_client[0].forget()
    return _hub_and_client[0]


@pytest.fixture
def client(_hub_and_client):
    """Runs a function of hub_client in a process that is not offline and knows only that Hub."""
    return _hub_and_client[1]
