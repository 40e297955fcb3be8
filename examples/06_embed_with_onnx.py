"""Embed spikes without torch and without huidurep: numpy and onnxruntime only.

    python conversion/export_onnx.py tetrode tetrode.onnx     # once, where huidurep[onnx] is installed
    python examples/06_embed_with_onnx.py tetrode.onnx

The spikes of two made-up neurons, cut as the file's metadata ask for, are separated by their embeddings.
"""

import argparse
import json

import numpy as np
import onnxruntime

PLACES_UM = np.array([(0, 0), (12.5, 0), (0, 12.5), (12.5, 12.5)], "float32")
FOOTPRINTS = np.array([(1.0, 0.6, 0.4, 0.3), (0.4, 0.5, 0.6, 1.0)])  # of each neuron, on the four contacts
SPIKES_A_NEURON = 200


def make_snippets(contract, rng):
    """Snippets (num_spikes, num_samples, 4) in uV with their troughs at the peak index, and the neuron of each."""
    units = np.repeat(np.arange(len(FOOTPRINTS)), SPIKES_A_NEURON)
    time_ms = 1e3 * (np.arange(contract["num_samples"]) - contract["peak_index"]) / contract["sampling_frequency"]
    shape = -np.exp(-((time_ms / 0.15) ** 2)) + 0.3 * np.exp(-(((time_ms - 0.5) / 0.3) ** 2))
    amplitude_uv = rng.normal(90, 8, (len(units), 1, 1))
    snippets = amplitude_uv * shape[None, :, None] * FOOTPRINTS[units][:, None, :]
    return (snippets + rng.normal(0, 12, snippets.shape)).astype("float32"), units


def embed(session, snippets, positions_um):
    """Embeddings (num_spikes, embedding_size); every channel and sample is there, so the masks are ones."""
    num_spikes, num_samples, num_channels = snippets.shape
    inputs = {
        "waveforms": snippets,
        "channel_mask": np.ones((num_spikes, num_channels), "float32"),
        "sample_mask": np.ones((num_spikes, num_samples), "float32"),
        "channel_positions": np.broadcast_to(positions_um, (num_spikes, *positions_um.shape)),
    }
    return session.run(["embeddings"], inputs)[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="file of conversion/export_onnx.py")
    session = onnxruntime.InferenceSession(parser.parse_args().model, providers=["CPUExecutionProvider"])
    contract = json.loads(session.get_modelmeta().custom_metadata_map["huidurep"])
    print(f"window: {contract['num_samples']} samples at {contract['sampling_frequency']:g} Hz,", end=" ")
    print(f"trough at {contract['peak_index']}, at most {contract['num_channels']} channels, uV")

    snippets, units = make_snippets(contract, np.random.default_rng(0))
    embeddings = embed(session, snippets, PLACES_UM)
    print(f"snippets {snippets.shape} -> embeddings {embeddings.shape}")

    # Each spike against the mean embeddings of the other half of the spikes: nobody is compared with itself.
    half = np.arange(len(units)) % 2
    right = []
    for side in (0, 1):
        means = np.stack([embeddings[(half != side) & (units == unit)].mean(0) for unit in (0, 1)])
        distance = np.linalg.norm(embeddings[half == side][:, None] - means[None], axis=2)
        right.append((distance.argmin(1) == units[half == side]).mean())
    print(f"spikes nearest to their own neuron's mean: {np.mean(right):.1%}")


if __name__ == "__main__":
    main()
