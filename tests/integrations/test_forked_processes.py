"""Workers that are forked after the parent has computed with two threads, and threads that share a model."""

import multiprocessing
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from huidurep import HuiduRep

PROGRAM = """
import multiprocessing, sys
import numpy as np, torch
from sklearn.cluster import KMeans
import huidurep
from huidurep.models.input_contract import map_waveforms

model = huidurep.HuiduRep.from_pretrained("tetrode")
waveforms = np.random.default_rng(0).normal(0, 30, (64, 90, 4)).astype("float32")

def work():
    torch.set_grad_enabled(True)
    model.denoise(waveforms)
    model(torch.from_numpy(waveforms)).embeddings.sum().backward()
    KMeans(4, n_init=1, random_state=0).fit(waveforms.reshape(64, -1))
    embedder = huidurep.SpikeEmbedder("tetrode").fit(waveforms)
    return float(abs(embedder.transform(waveforms) - model.embed(waveforms)).max())

if __name__ == "__main__":
    torch.set_num_threads(2)
    work()
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    child = context.Process(target=lambda: queue.put((work(), torch.get_num_threads())))
    child.start()
    child.join(30)
    if child.exitcode != 0:
        child.kill()
        sys.exit(f"the child hangs or ended with {child.exitcode}")
    assert queue.get() == (0.0, 1)
    assert torch.get_num_threads() == 2
"""


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="this system does not fork")
def test_forked_worker_computes(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    # waiting threads that spin would take the processors from the others of a busy computer
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}
    subprocess.run([sys.executable, tmp_path / "program.py"], check=True, timeout=120, env=environment)


@pytest.mark.parametrize("is_training", [False, True])
def test_threads_share_a_model(is_training):
    model = HuiduRep.from_pretrained("tetrode")
    for layer in model.encoder.layers:
        layer.dropout = 0.5
    waveforms = np.random.default_rng(0).normal(0, 30, (64, 90, 4)).astype("float32")
    expected = model.embed(waveforms)
    model.train(is_training)
    model.decoder.eval()
    found = []
    threads = [threading.Thread(target=lambda: found.append(model.embed(waveforms))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(each, expected) for each in found) and len(found) == 4
    assert model.training is is_training and not model.decoder.training
