"""Embed spike waveforms of another rate and window than the model's, and cluster them with scikit-learn.

    python examples/02_embed_waveforms.py

The waveforms stand for what you already have: cut elsewhere, at another sampling frequency, in uV.
"""

import numpy as np
import spikeinterface.preprocessing
from sklearn.metrics import adjusted_rand_score
from sklearn.mixture import GaussianMixture

import huidurep

SAMPLING_FREQUENCY = 24000.0
PEAK_INDEX = 24
NUM_SAMPLES = 72
NUM_UNITS = 5


def cut_waveforms(recording, sorting):
    """Snippets (num_spikes, num_samples, num_channels) in uV around every true spike, and the unit of each."""
    traces = recording.get_traces(return_in_uV=True)
    spikes = sorting.to_spike_vector()
    starts = spikes["sample_index"] - PEAK_INDEX
    inside = (starts >= 0) & (starts + NUM_SAMPLES <= len(traces))
    waveforms = np.stack([traces[start : start + NUM_SAMPLES] for start in starts[inside]])
    return waveforms.astype("float32"), spikes["unit_index"][inside]


def main():
    recording, sorting = huidurep.simulate_recording(
        num_units=NUM_UNITS, duration_s=20.0, sampling_frequency=SAMPLING_FREQUENCY, seed=1
    )
    filtered = spikeinterface.preprocessing.bandpass_filter(recording, freq_min=300.0, freq_max=6000.0)
    waveforms, units = cut_waveforms(filtered, sorting)

    model = huidurep.HuiduRep.from_pretrained("tetrode")
    embeddings = model.embed(
        waveforms,
        sampling_frequency=SAMPLING_FREQUENCY,
        peak_index=PEAK_INDEX,
        channel_positions=recording.get_channel_locations(),
    )
    print(f"waveforms {waveforms.shape} -> embeddings {embeddings.shape}")

    mixture = GaussianMixture(NUM_UNITS, n_init=3, reg_covar=1e-4, random_state=0)
    labels = mixture.fit_predict(embeddings.astype("float64"))
    print(f"adjusted Rand index of {NUM_UNITS} clusters: {adjusted_rand_score(units, labels):.2f}")


if __name__ == "__main__":
    main()
