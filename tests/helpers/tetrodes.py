"""A recording of two tetrodes on disk and its result, for tests of exporters."""

from stand_in import PcaModel

from huidurep import SortingParameters, SpikeSortingPipeline

RATE_HZ = 29999.954  # a measured rate, as in SpikeGLX
PARAMETERS = SortingParameters(detect_threshold=6.0)
QUICK = ("random_spikes", "templates")


def sort(recording, **parameters):
    return SpikeSortingPipeline(PcaModel(), SortingParameters(detect_threshold=6.0, **parameters))(recording)
