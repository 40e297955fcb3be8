import numpy as np
from synthetic_result import synthetic

from huidurep.report.page_data import TimeAxis
from huidurep.report.settings import ReportSettings
from huidurep.report.summary import find_remarks, format_duration, summarise


def test_summary_and_remarks():
    result = synthetic(6, 40)
    sentences = summarise(result, TimeAxis(result))
    for number in ("6 units", "240 spikes", "10 min", "16 channels"):
        assert number in sentences[0]
    assert "4 are good" in sentences[1] and "2 are" in sentences[1] and "mua" in sentences[1]
    remarks = {remark.flag: remark for remark in find_remarks(result, [])}
    assert remarks["run"].text == "motion: nothing <moved>"
    assert remarks["few spikes"].units == [0, 1, 2, 3, 4, 5]
    share = result.sorting.get_property("neighbour_share")
    assert remarks["overlap"].units == np.flatnonzero(share > 0.1).tolist()
    result.sorting.set_property("quality", np.array(["good", "mua", "noise", "noise", "good", "axon"]))
    assert summarise(result, TimeAxis(result))[1].startswith("2 are good; 1 is axon; 1 is multi-unit activity (mua), ")
    assert summarise(result, TimeAxis(result))[1].endswith("; 2 are noise.")
    strict = {remark.flag for remark in find_remarks(result, [], settings=ReportSettings(low_snr=1000.0, few_spikes=1))}
    assert "low SNR" in strict and "few spikes" not in strict
    assert [format_duration(seconds) for seconds in (1.5, 125, 3600, 12000)] == [
        "1.5 s",
        "2 min 5 s",
        "1 h",
        "3 h 20 min",
    ]
