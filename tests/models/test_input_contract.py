"""Mapping of any window, rate and probe to an encoder's input contract."""

import numpy as np
import pytest
import torch

from huidurep import HuiduRep, HuiduRepConfig
from huidurep.models.denoising import unmap_waveforms
from huidurep.models.input_contract import map_waveforms, nominal_positions

CONFIG = HuiduRepConfig(num_samples=90, peak_index=30, num_channels=4)
SQUARE_UM = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0], [20.0, 20.0]])


def waves(num_spikes=3, num_samples=90, num_channels=4, seed=0):
    """Noise with enough of an offset that every spike's largest deflection is a trough, wherever one looks."""
    rng = np.random.default_rng(seed)
    return -np.abs(rng.normal(0, 30, (num_spikes, num_samples, num_channels))).astype(np.float32)


def spike(time_s, frequency_hz=1500.0, width_s=0.25e-3):
    """Oscillation in a Gaussian envelope: nothing measurable above 5 kHz, zero at the ends of the windows below."""
    return -100 * np.exp(-((time_s / width_s) ** 2) / 2) * np.cos(2 * np.pi * frequency_hz * time_s)


def sampled(sampling_frequency, num_samples, peak_index, gains=(1.0, 0.5, -0.3, 0.1)):
    time_s = (np.arange(num_samples) - peak_index) / sampling_frequency
    return (spike(time_s)[None, :, None] * np.array(gains)).astype(np.float32)


@pytest.mark.parametrize(("sampling_frequency", "num_samples", "peak_index"),
                         [(24000.0, 90, 30), (48000.0, 160, 55), (15000.0, 60, 20), (30000.0, 130, 47)])  # fmt: skip
@pytest.mark.parametrize("known", [True, False])
def test_resampling_meets_the_analytic_waveform(sampling_frequency, num_samples, peak_index, known):
    waveforms = sampled(sampling_frequency, num_samples, peak_index)
    mapped = map_waveforms(
        waveforms, CONFIG, sampling_frequency=sampling_frequency, peak_index=peak_index if known else None
    )
    expected = sampled(30000.0, 90, 30)
    assert mapped.snippets.shape == (1, 90, 4) and mapped.snippets.dtype == np.float32
    exists = mapped.sample_mask[0] > 0
    # 0.5 uV of 100: what the window of the kernel costs.
    assert np.abs(mapped.snippets - expected)[:, exists].max() < 0.5
    assert np.abs(expected[:, ~exists]).max(initial=0) < 0.5


def test_contract_equal_to_input_is_the_identity():
    waveforms = waves()
    waveforms[1, 10:20] = 0.0
    waveforms[2] *= 1e-12
    mapped = map_waveforms(waveforms, CONFIG, peak_index=30)
    assert np.array_equal(mapped.snippets, waveforms)
    assert mapped.sample_mask.all() and mapped.channel_mask.all()
    assert np.array_equal(mapped.channels, np.tile(np.arange(4), (3, 1)))


def test_whole_shift_copies_exactly_and_masks_the_rest():
    waveforms = waves(num_samples=50)
    mapped = map_waveforms(waveforms, CONFIG, peak_index=10)
    assert np.array_equal(mapped.snippets[:, 20:70], waveforms)
    assert np.array_equal(mapped.sample_mask[0], (np.arange(90) >= 20) & (np.arange(90) < 70))
    assert not mapped.snippets[:, :20].any() and not mapped.snippets[:, 70:].any()


@pytest.mark.parametrize("peak_index", [30, None])
def test_spikes_that_point_up_are_turned_over(peak_index):
    waveforms = np.repeat(sampled(30000.0, 90, 30), 5, axis=0)
    up = map_waveforms(-waveforms, CONFIG, peak_index=peak_index)
    assert np.array_equal(up.snippets, map_waveforms(waveforms, CONFIG, peak_index=peak_index).snippets)
    back = unmap_waveforms(up.snippets, up, -waveforms, CONFIG, sampling_frequency=30000.0)
    assert np.abs(back + waveforms).max() < 1e-3
    either = HuiduRepConfig(num_samples=90, spike_polarity="any")
    assert np.array_equal(map_waveforms(-waveforms, either, peak_index=30).snippets, -waveforms)


def company(num_spikes=40):
    """Spikes of either sign, and with a larger spike of another cell 1.3 ms later; which of them point up."""
    rng, time = np.random.default_rng(0), np.arange(90)
    spikes = -60 * np.exp(-0.5 * ((time - 30) / 4) ** 2)[None, :, None] * rng.uniform(0.5, 1, (num_spikes, 1, 4))
    spikes[::4] -= 120 * np.exp(-0.5 * ((time - 70) / 4) ** 2)[:, None]
    is_up = np.arange(num_spikes) % 8 == 1
    spikes[is_up] *= -1
    return (spikes + 3 * rng.standard_normal(spikes.shape)).astype(np.float32), is_up


@pytest.mark.parametrize("options", [{}, {"peak_index": 30}, {"peak_index": 30, "peak_sign": "neg"}])
def test_a_row_never_depends_on_the_others(model, options):
    waveforms, is_up = company()
    for method, tolerance in ((model.embed, 1e-4), (model.denoise, 1e-2)):
        whole = method(waveforms, **options)
        alone = np.concatenate([method(row[None], **options) for row in waveforms])
        np.testing.assert_allclose(whole, alone, atol=tolerance)
        np.testing.assert_allclose(method(waveforms, batch_size=3, **options), whole, atol=tolerance)
    mapped = map_waveforms(waveforms, CONFIG, **options)
    assert np.array_equal(mapped.polarity < 0, is_up & ("peak_sign" not in options))
    plain = np.arange(len(waveforms)) % 4 != 0
    assert np.abs(mapped.peak_index - 30)[plain].max() <= 2


def test_after_wave_larger_than_the_trough_turns_no_spike_over():
    trough, wave = (np.exp(-0.5 * ((np.arange(90) - place) / 4) ** 2)[None, :, None] for place in (30, 45))
    waveforms = (-60 * trough + 120 * wave) * np.ones(4)
    assert map_waveforms(waveforms, CONFIG, peak_index=30).polarity[0] == 1
    # where nothing is known, the larger deflection is the spike
    found = map_waveforms(waveforms, CONFIG)
    assert found.polarity[0] == -1 and found.peak_index[0] == 45


def test_slow_after_wave_in_noise_turns_no_spike_over():
    # of a Utah array: the trough is early in the window, the after-wave is as large with noise, but slower
    time = np.arange(48)
    spike = -60 * np.exp(-0.5 * ((time - 10) / 2.5) ** 2) + 45 * np.exp(-0.5 * ((time - 20) / 6) ** 2)
    waveforms = spike[None, :, None] + np.random.default_rng(0).normal(0, 12, (500, 48, 1))
    mapped = map_waveforms(waveforms, CONFIG)
    assert (mapped.polarity < 0).mean() < 0.03
    assert (np.abs(mapped.peak_index - 10) <= 2).mean() > 0.95


def test_a_given_sign_is_taken(model):
    waveforms, _ = company()
    up = model.embed(waveforms, peak_index=30, peak_sign="pos")
    np.testing.assert_allclose(up, model.embed(-waveforms, peak_index=30, peak_sign="neg"), atol=1e-4)
    with pytest.raises(ValueError, match="peak_sign"):
        map_waveforms(waveforms, CONFIG, peak_sign="both")
    signs = np.where(np.arange(len(waveforms)) % 3 == 0, "pos", "neg")
    for peak_index in (30, None):
        of_each = model.embed(waveforms, peak_index=peak_index, peak_sign=signs.tolist())
        for sign in ("neg", "pos"):
            rows = signs == sign
            expected = model.embed(waveforms[rows], peak_index=peak_index, peak_sign=sign)
            np.testing.assert_allclose(of_each[rows], expected, atol=1e-5)
    for wrong, found in ((signs[1:], r"an array \(\d+,\)"), (np.ones(len(waveforms)), r"\[1\.0\]")):
        with pytest.raises(ValueError, match=f"peak_sign.*for each of {len(waveforms)} spikes.*{found}"):
            map_waveforms(waveforms, CONFIG, peak_sign=wrong)


def test_peak_is_found_for_each_spike():
    rng = np.random.default_rng(1)
    peaks = rng.integers(26, 35, 20)
    waveforms = np.concatenate([sampled(30000.0, 100, peak) for peak in peaks]) + rng.normal(0, 1, (20, 100, 4))
    assert np.array_equal(map_waveforms(waveforms, CONFIG).peak_index, peaks)
    mapped = map_waveforms(waveforms, CONFIG)
    assert (np.abs(mapped.snippets[:, :, 0]).argmax(1) == 30).all()


@pytest.mark.parametrize("order", ["position", "nearest_first"])
@pytest.mark.parametrize("seed", range(4))
def test_order_of_channels_does_not_matter_with_positions(order, seed):
    config = HuiduRepConfig(num_channels=4, channel_order=order)
    rng = np.random.default_rng(seed)
    places = np.stack([rng.permutation(9) * 13.0, rng.permutation(9) * 20.0], 1)
    waveforms, permutation = waves(num_channels=9, seed=seed), rng.permutation(9)
    mapped = map_waveforms(waveforms, config, peak_index=30, channel_positions=places)
    other = map_waveforms(waveforms[:, :, permutation], config, peak_index=30, channel_positions=places[permutation])
    assert np.array_equal(mapped.snippets, other.snippets)
    assert np.array_equal(permutation[other.channels], mapped.channels)


def test_square_probe_has_ties_and_still_does_not_depend_on_order():
    waveforms, permutation = waves(num_spikes=12), np.array([2, 0, 3, 1])
    mapped = map_waveforms(waveforms, CONFIG, peak_index=30, channel_positions=SQUARE_UM)
    other = map_waveforms(waveforms[:, :, permutation], CONFIG, peak_index=30, channel_positions=SQUARE_UM[permutation])
    assert np.array_equal(mapped.snippets, other.snippets)


@pytest.mark.parametrize("order", ["position", "nearest_first", "center"])
@pytest.mark.parametrize("positions", [True, False])
def test_missing_channels_are_masked_and_never_repeated(order, positions):
    config = HuiduRepConfig(num_channels=7, channel_order=order, channel_mixing="index")
    places = SQUARE_UM[:3] if positions else None
    mapped = map_waveforms(waves(num_channels=3), config, peak_index=30, channel_positions=places)
    for row, mask, snippet in zip(mapped.channels, mapped.channel_mask, mapped.snippets, strict=True):
        assert sorted(row[row >= 0]) == [0, 1, 2] and (row < 0).sum() == 4
        assert np.array_equal(mask, row >= 0)
        assert not snippet[:, row < 0].any()


@pytest.mark.parametrize("order", ["position", "nearest_first", "center"])
@pytest.mark.parametrize("positions", [True, False])
def test_no_channel_is_added_where_any_number_will_do(order, positions):
    config = HuiduRepConfig(num_channels=16, channel_order=order)
    places = SQUARE_UM if positions else None
    mapped = map_waveforms(waves(), config, peak_index=30, channel_positions=places)
    assert mapped.snippets.shape == (3, 90, 4) and mapped.channels.shape == (3, 4) and mapped.channel_mask.all()
    assert all(sorted(row) == [0, 1, 2, 3] for row in mapped.channels)
    known = np.array(nominal_positions(4)) if places is None else places
    assert np.allclose(mapped.positions_um, known[mapped.channels] - known[0])


def test_places_go_with_the_channels_of_each_spike():
    waveforms, places = 0.1 * waves(num_channels=9), np.stack([np.zeros(9), 25.0 * np.arange(9)], 1) + 4e6
    for row, channel in enumerate((0, 4, 8)):
        waveforms[row, 30, channel] = -300.0
    mapped = map_waveforms(waveforms, CONFIG, peak_index=30, channel_positions=places)
    assert mapped.channels.tolist() == [[0, 1, 2, 3], [2, 3, 4, 5], [5, 6, 7, 8]]
    # to the micrometre, four metres along the shank
    assert np.array_equal(mapped.positions_um[:, :, 1], 25.0 * mapped.channels)
    assert not mapped.positions_um[:, :, 0].any() and mapped.positions_um.dtype == np.float32
    by_index = HuiduRepConfig(num_channels=4, channel_mixing="index")
    assert map_waveforms(waveforms, by_index, peak_index=30, channel_positions=places).positions_um is None


def test_nominal_positions():
    assert nominal_positions(1) == [(0.0, 0.0)]
    assert nominal_positions(4) == [(0.0, 0.0), (12.5, 0.0), (0.0, 12.5), (12.5, 12.5)]
    assert nominal_positions(6) == [(0.0, 25.0 * index) for index in range(6)]


@pytest.mark.parametrize("peak_channel", [0, 3, 9])
def test_nearest_channels_are_kept(peak_channel):
    places = np.stack([np.zeros(10), np.arange(10) * 20.0], 1)
    waveforms = waves(num_spikes=1, num_channels=10) * 0.1
    waveforms[0, 30, peak_channel] = -300.0
    config = HuiduRepConfig(num_channels=3, channel_order="nearest_first")
    nearest = map_waveforms(waveforms, config, peak_index=30, channel_positions=places).channels[0]
    assert nearest[0] == peak_channel
    distances = np.abs(nearest - peak_channel)
    assert (np.diff(distances) >= 0).all() and distances.max() == (2 if peak_channel in (0, 9) else 1)
    ordered = map_waveforms(
        waveforms, HuiduRepConfig(num_channels=3), peak_index=30, channel_positions=places
    ).channels[0]
    assert sorted(nearest) == list(ordered)
    in_a_row = map_waveforms(waveforms, HuiduRepConfig(num_channels=3), peak_index=30).channels[0]
    assert list(in_a_row) == list(ordered)


def test_places_in_three_dimensions():
    flat = np.column_stack([SQUARE_UM[:, 0], np.full(4, 7.0), SQUARE_UM[:, 1]])
    mapped = map_waveforms(waves(), CONFIG, peak_index=30, channel_positions=flat)
    assert np.array_equal(
        mapped.snippets, map_waveforms(waves(), CONFIG, peak_index=30, channel_positions=SQUARE_UM).snippets
    )
    bent = np.column_stack([SQUARE_UM, [0.0, 5.0, 9.0, 3.0]])
    with pytest.raises(ValueError, match="channel_positions"):
        map_waveforms(waves(), CONFIG, channel_positions=bent)


def with_value(value):
    waveforms = waves()
    waveforms[2, 5, 1] = value
    return waveforms


@pytest.mark.parametrize(
    ("waveforms", "options", "match"),
    [
        (with_value(np.nan), {}, "NaN or infinity first in spike 2"),
        (with_value(np.inf), {}, "NaN or infinity first in spike 2"),
        (waves()[0], {}, r"found shape \(90, 4\): add the missing axis"),
        (waves()[:, :, :0], {}, "at least 2 samples and 1 channel"),
        (waves(num_samples=8), {}, r"at least 0.4 ms, found 8 samples at 30000.0 Hz \(0.27 ms\)"),
        (np.ma.masked_where(waves() == waves()[1, 5, 2], waves()), {}, "without masked samples.* in spike 1"),
        (waves(), {"sampling_frequency": 30.0}, "sampling_frequency of 1000 .*found 30.0.*not in kHz"),
        (waves(), {"sampling_frequency": 0}, "sampling_frequency of 1000 to 1e.06 Hz"),
        (waves(), {"sampling_frequency": float("nan")}, "sampling_frequency of 1000 to 1e.06 Hz"),
        (waves(), {"peak_index": 90}, "peak_index within the 90 samples, found 90"),
        (waves(), {"peak_index": -1}, "peak_index within the 90 samples, found -1"),
        (waves(), {"channel_positions": SQUARE_UM[:3]}, r"channel_positions \(4, 2\)"),
        (waves(), {"channel_positions": SQUARE_UM[:, :1]}, r"channel_positions \(4, 2\)"),
        (waves(), {"channel_positions": SQUARE_UM * np.nan}, "finite channel_positions"),
    ],
)
def test_what_cannot_be_mapped_is_refused(waveforms, options, match):
    with pytest.raises(ValueError, match=match):
        map_waveforms(waveforms, CONFIG, **options)


def test_what_is_no_number_is_refused():
    with pytest.raises(TypeError, match="dtype"):
        map_waveforms(waves().astype(complex), CONFIG)
    with pytest.raises(TypeError, match="dtype"):
        map_waveforms(np.full((2, 90, 4), "a"), CONFIG)


@pytest.mark.parametrize("value", ["30000", None, [30000.0], [[1], [1, 2]], 3e4 + 1j, True, object()])
@pytest.mark.parametrize("name", ["sampling_frequency", "peak_index"])
def test_numbers_that_are_none_are_refused_by_name(name, value):
    if name == "peak_index" and value is None:
        return  # to be found
    with pytest.raises(TypeError, match=f"^expected {name} "):
        map_waveforms(waves(), HuiduRepConfig(), **{name: value})


@pytest.mark.parametrize("value", [np.float32(30000), np.array(30000), np.int64(30000), 30000])
def test_numbers_of_numpy_are_numbers(value):
    mapped = map_waveforms(waves(), HuiduRepConfig(), sampling_frequency=value, peak_index=np.int64(30))
    assert mapped.snippets.shape == (3, 90, 4)


def test_other_words_of_numpy_are_not_passed_on():
    with pytest.raises(TypeError, match=r"^expected channel_positions \(4, 2\)"):
        map_waveforms(waves(), HuiduRepConfig(), channel_positions=[["a", "b"]] * 4)
    with pytest.raises(ValueError, match="^expected one array of waveforms"):
        map_waveforms([waves()[0], waves()[1][:50]], HuiduRepConfig())


@pytest.mark.parametrize("dtype", [np.int16, np.float64, np.float16])
def test_types_of_numbers(dtype):
    whole = np.round(waves()).astype(dtype)
    assert np.array_equal(map_waveforms(whole, CONFIG, peak_index=30).snippets, whole.astype(np.float32))


def test_no_spikes():
    mapped = map_waveforms(np.zeros((0, 40, 6)), CONFIG)
    assert mapped.snippets.shape == (0, 90, 4) and mapped.channels.shape == (0, 4)


def test_unmapping_gives_a_band_limited_spike_back():
    waveforms = sampled(48000.0, 160, 55)
    mapped = map_waveforms(waveforms, CONFIG, sampling_frequency=48000.0, peak_index=55)
    back = unmap_waveforms(mapped.snippets, mapped, np.full_like(waveforms, 9.0), CONFIG, sampling_frequency=48000.0)
    covered = (np.abs(back - 9.0) > 1e-6).any((0, 2))
    assert covered.sum() > 100
    assert np.abs(back - waveforms)[:, covered].max() < 0.5


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return HuiduRep(HuiduRepConfig(hidden_size=16, num_hidden_layers=1, intermediate_size=16, embedding_size=8)).eval()


@pytest.mark.parametrize(
    ("num_samples", "num_channels", "rate"), [(90, 4, 30000.0), (140, 6, 30000.0), (70, 3, 24000.0)]
)
def test_denoise_returns_the_shape_and_leaves_what_is_not_covered(model, num_samples, num_channels, rate):
    waveforms = waves(num_samples=num_samples, num_channels=num_channels)
    peak = num_samples // 2 - 5
    denoised = model.denoise(waveforms, sampling_frequency=rate, peak_index=peak)
    assert denoised.shape == waveforms.shape and denoised.dtype == np.float32
    at = (np.arange(num_samples) - peak) * 30000.0 / rate + 30
    covered = (at >= 0) & (at <= 89)
    assert np.array_equal(denoised[:, ~covered], waveforms[:, ~covered])
    mapped = map_waveforms(waveforms, model.config, sampling_frequency=rate, peak_index=peak)
    for row in range(3):
        seen = np.isin(np.arange(num_channels), mapped.channels[row])
        assert np.array_equal(denoised[row][:, ~seen], waveforms[row][:, ~seen])
        assert (denoised[row][np.ix_(covered, seen)] != waveforms[row][np.ix_(covered, seen)]).all()


def test_denoise_of_the_contract_is_the_decoder(model):
    waveforms = waves()
    with torch.no_grad():
        expected = model(torch.from_numpy(waveforms), output_reconstruction=True).reconstruction
    assert np.abs(model.denoise(waveforms, peak_index=30) - expected.numpy()).max() < 1e-4
    assert model.denoise(waveforms[:0]).shape == (0, 90, 4)


def test_snippets_of_the_research_window_are_taken_as_they_are():
    config = HuiduRepConfig.paper()
    snippets = np.random.default_rng(0).normal(0, 30, (4, 121, 11)).astype(np.float32)
    np.testing.assert_array_equal(map_waveforms(snippets, config).snippets, snippets)
    # any other window is aligned as ever
    longer = map_waveforms(np.pad(waves(num_channels=11), ((0, 0), (40, 40), (0, 0))), config)
    assert len(np.unique(longer.peak_index)) > 1
