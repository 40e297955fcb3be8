"""The HTML report: what is in it, with and without a browser."""

import base64
import json
import os
import time
from html.parser import HTMLParser

import numpy as np
import pytest
from browser import console_errors, requested_urls, reset, save_pdf
from stand_in import RATE_HZ, TETRODE_UM, PcaModel, as_recording, planted
from synthetic_result import synthetic
from typer.testing import CliRunner

from huidurep import SortingParameters
from huidurep.cli.main import app
from huidurep.pipeline import SpikeSortingPipeline
from huidurep.report.page import write_page
from huidurep.report.page_data import TimeAxis
from huidurep.result import SortingResult
from huidurep.sorting.recorded_times import RecordedTimes

pytest.importorskip("jinja2")

VOID = {"meta", "link", "br", "img", "input", "polyline", "hr"}
ODD = "<b>7</b>&\"'</script>"


class Balance(HTMLParser):
    """Collects unbalanced tags, and all links of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.wrong, self.ids, self.links = [], [], [], []
        self.data = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes[name] for name in ("href", "src") if name in attributes]
        if tag not in VOID:
            self.open.append((tag, attributes.get("id")))

    def handle_startendtag(self, tag, attributes):
        pass

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.wrong.append((tag, self.getpos()))
        else:
            self.open.pop()

    def handle_data(self, data):
        if self.open and self.open[-1] == ("script", "data"):
            self.data += data


def parse(page):
    """The parsed page, which is well formed, and the values embedded in it."""
    parsed = Balance(page.read_text(encoding="utf8"))
    assert parsed.open == [] and parsed.wrong == []
    assert len(parsed.ids) == len(set(parsed.ids))
    assert all(link.startswith("#") or link == "data:," for link in parsed.links)
    return parsed, json.loads(parsed.data)


@pytest.fixture(scope="module")
def sorted_tetrode():
    traces, *_ = planted(duration_s=6.0)
    recording = as_recording(traces, traces[:90000], positions_um=TETRODE_UM)
    parameters = SortingParameters(num_units=3, matching=None, detect_threshold=6.0)
    return SpikeSortingPipeline(PcaModel(), parameters)(recording), recording


@pytest.fixture(scope="module")
def tetrode_page(sorted_tetrode, tmp_path_factory):
    return write_page(sorted_tetrode[0], tmp_path_factory.mktemp("page") / "made" / "tetrode.html", name="day <1>")


@pytest.fixture(scope="module")
def large_page(tmp_path_factory):
    return write_page(synthetic(300, 1000), tmp_path_factory.mktemp("page") / "large.html")


def test_page_of_a_sorting(sorted_tetrode, tetrode_page):
    result, _ = sorted_tetrode
    parsed, data = parse(tetrode_page)
    text = tetrode_page.read_text(encoding="utf8")
    assert {"look", "overview", "units", "panels", "run", "unit-0", "unit-2"} <= set(parsed.ids)
    assert "day &lt;1&gt;" in text and "3 units" in text and "9.0 s in 2 segments of 4 channels" in text
    assert result.provenance["recording"]["sha256"] in text and "NumpyRecording" in text
    assert result.provenance["versions"]["spikeinterface"] in text
    assert data["axis"] == {"first_s": 0.0, "total_s": 9.0, "starts_s": [6.0], "recorded_s": [6.0]}
    assert [unit["id"] for unit in data["units"]] == ["0", "1", "2"]
    counts = np.bincount(result.sorting.to_spike_vector()["unit_index"])
    assert [unit["amplitudes"]["num_shown"] for unit in data["units"]] == counts.tolist()
    # spikes planted at least 3 ms apart: the first bins of 0.5 ms are empty, the later ones are not
    acg = np.array([unit["acg"] for unit in data["units"]])
    assert acg.shape == (3, 50) and acg[:, :4].sum() == 0 and (acg[:, 10:].sum(axis=1) > 0).all()


def test_templates_are_packed_as_they_are(sorted_tetrode, tetrode_page):
    result, _ = sorted_tetrode
    _, data = parse(tetrode_page)
    for unit, packed in enumerate(row["template"] for row in data["units"]):
        values = np.frombuffer(base64.b64decode(packed["values"]), "<i2").reshape(4, packed["num_samples"])
        original = result.measurements.templates_uv[unit, :, :4]
        assert packed["channels"] == result.measurements.template_channels[unit, :4].tolist()
        assert np.allclose(values[:, 0] * packed["uv"], original[0], atol=0.01)
        assert np.isclose(np.abs(values * packed["uv"]).max(), np.abs(original).max(), rtol=0.05)


def test_page_without_measures_says_what_is_missing(sorted_tetrode, tmp_path):
    result, recording = sorted_tetrode
    folder = result.save(tmp_path / "out")
    (folder / "measures.npz").unlink()
    info = json.loads((folder / "huidurep.json").read_text())
    del info["provenance"]
    (folder / "huidurep.json").write_text(json.dumps(info))
    old = SortingResult.load(folder)
    page = old.write_report(tmp_path / "old.html")
    _, data = parse(page)
    assert "--recording" in page.read_text(encoding="utf8") and "at least" in page.read_text(encoding="utf8")
    assert data["units"][0]["template"] is None and data["overview"]["probe"] is None
    _, data = parse(old.write_report(page, recording=recording, overwrite=True))
    assert data["units"][0]["template"] is not None
    with pytest.raises(ValueError, match="num_segments 2, found 1"):
        old.write_report(page, recording=recording.select_segments([0]), overwrite=True)


def test_result_without_peaks_opens_and_says_what_is_missing(sorted_tetrode, tmp_path):
    result, recording = sorted_tetrode
    folder = result.save(tmp_path / "out")
    known = dict(np.load(folder / "measures.npz"))
    for name in ("template_quantiles_uv", "drawn_spikes", "contact_peaks_uv"):
        del known[name]
    np.savez(folder / "measures.npz", **known)  # as the version before wrote it
    page = SortingResult.load(folder).write_report(tmp_path / "old.html")
    _, data = parse(page)
    assert "no peaks on the contacts" in page.read_text(encoding="utf8")
    assert data["units"][0]["template"]["spread"] is None and data["clusters"]["units"][0]["peaks"] is None
    assert data["clusters"]["maps"][0]["units"] == [0, 1, 2]
    SortingResult.load(folder).write_report(page, recording=recording, overwrite=True)
    assert "no peaks on the contacts" not in page.read_text(encoding="utf8")
    assert parse(page)[1]["clusters"]["units"][0]["peaks"]


def test_peaks_and_spread_are_packed_as_they_are(sorted_tetrode, tetrode_page):
    result, _ = sorted_tetrode
    _, data = parse(tetrode_page)
    measurements, clusters = result.measurements, data["clusters"]
    owners = result.sorting.to_spike_vector()["unit_index"][measurements.drawn_spikes]
    for unit, packed in enumerate(clusters["units"]):
        steps = np.frombuffer(base64.b64decode(packed["peaks"]), "u1").reshape(4, packed["num_drawn"])
        peaks_uv = np.array(packed["low"])[:, None] + steps * np.array(packed["step"])[:, None]
        expected_uv = -measurements.contact_peaks_uv[owners == unit, :4].T
        assert np.allclose(np.sort(peaks_uv), np.sort(expected_uv), atol=0.6 * max(packed["step"]) + 0.02)
        template = data["units"][unit]["template"]
        spread = np.frombuffer(base64.b64decode(template["spread"]), "u1").reshape(2, 4, template["num_samples"])
        low_uv, high_uv = measurements.template_quantiles_uv[:, unit, :, :4]
        width_uv = spread.sum(axis=0)[:, 0] * template["spread_uv"]
        assert np.allclose(width_uv, (high_uv - low_uv)[0], atol=template["spread_uv"] + 0.01)
    assert [view["contacts"] for view in clusters["views"]] == [[0, 1, 2, 3]] * 3
    (shared,) = clusters["maps"]
    points = np.frombuffer(base64.b64decode(shared["points"]), "<u2").reshape(-1, 2)
    assert len(points) == sum(unit["num_drawn"] for unit in clusters["units"])


def test_intervals_are_counted(sorted_tetrode, tetrode_page):
    result, _ = sorted_tetrode
    _, data = parse(tetrode_page)
    edges_ms = np.geomspace(*data["isi_ms"], 51)
    for unit, packed in zip(result.sorting.unit_ids, data["units"], strict=True):
        trains = [result.sorting.get_unit_spike_train(unit, segment_index=segment) for segment in range(2)]
        intervals_ms = np.concatenate([np.diff(train) for train in trains]) / 30.0
        assert sum(packed["isi"]) == len(intervals_ms)
        long = np.sum(intervals_ms > edges_ms[25])
        assert abs(sum(packed["isi"][25:]) - long) <= 1


def test_no_units(tmp_path):
    recording = as_recording(np.zeros((3000, 4), dtype="float32"), positions_um=TETRODE_UM)
    page = SpikeSortingPipeline(PcaModel())(recording).write_report(tmp_path / "none.html")
    _, data = parse(page)
    text = page.read_text(encoding="utf8")
    assert "0.1 s of 4 channels" in text and data["units"] == []
    assert "--recording" not in text  # nothing is missing where there is nothing


def test_odd_ids_are_text(tmp_path):
    page = write_page(synthetic(2, 40, unit_ids=[ODD, "ü 2"]), tmp_path / "odd.html", name=ODD)
    _, data = parse(page)
    text = page.read_text(encoding="utf8")
    assert "<b>7" not in text and "nothing &lt;moved&gt;" in text
    assert [unit["id"] for unit in data["units"]] == [ODD, "ü 2"]


def test_names_with_bytes_that_are_no_text(tmp_path):
    page = write_page(synthetic(2, 40), tmp_path / "page.html", name=os.fsdecode(b"donn\xe9es"))
    assert "donn\\udce9es" in page.read_text(encoding="utf8")


def test_a_file_is_not_replaced_unasked(tetrode_page, sorted_tetrode):
    with pytest.raises(FileExistsError, match="overwrite"):
        write_page(sorted_tetrode[0], tetrode_page)


def test_only_an_earlier_report_is_replaced(tmp_path):
    result, path = synthetic(2, 40), tmp_path / "recording.dat"
    path.write_bytes(b"\x00\xff" * 1000)
    with pytest.raises(FileExistsError, match="another file"):
        write_page(result, path, overwrite=True)
    assert path.read_bytes() == b"\x00\xff" * 1000
    page = write_page(result, tmp_path / "page.html")
    write_page(result, page, overwrite=True)


def test_the_table_says_why_a_unit_is_no_good_one(large_page):
    text = large_page.read_text(encoding="utf8")
    # 100 of the 300 units, in the table and above their figures
    assert text.count("mua</span> overlaps with unit &lt;1&gt;") == 200


def test_the_time_axis_has_the_times_of_the_recording():
    result = synthetic(2, 40, num_segments=2)  # segments of 600 s
    vector = result.sorting.to_spike_vector()
    without_times_s = TimeAxis(result).of(vector)
    samples = np.array([0, 8999999, 9000000, 17999999])
    gap = (samples, samples / RATE_HZ + [0.0, 0.0, 50.0, 50.0])
    knots = [(np.zeros(0, dtype=int), np.zeros(0)), gap]
    result.sorting.register_recording(RecordedTimes(RATE_HZ, [18000000, 18000000], [100.0, 0.0], knots))
    axis = TimeAxis(result)
    described = {"first_s": 100.0, "total_s": pytest.approx(1250.0), "starts_s": [600.0], "recorded_s": [0.0]}
    assert axis.describe() == described
    late = (vector["segment_index"] == 1) & (vector["sample_index"] >= 9000000)
    assert np.allclose(axis.of(vector) - without_times_s, 50.0 * late)
    assert axis.durations_s.tolist() == [600.0, 600.0]  # rates do not count the gap


def test_page_of_300_units_is_small(large_page):
    _, data = parse(large_page)
    assert len(data["units"]) == 300
    assert large_page.stat().st_size < 10e6


def test_command(sorted_tetrode, tmp_path):
    result, _ = sorted_tetrode
    folder = result.save(tmp_path / "out")
    run = CliRunner().invoke(app, ["report", str(folder)])
    assert run.exit_code == 0, run.output
    assert run.output.strip().endswith("report.html")
    parse(folder / "report.html")
    again = CliRunner().invoke(app, ["report", str(folder)])
    assert again.exit_code == 2 and "--overwrite" in again.stderr
    assert CliRunner().invoke(app, ["report", str(folder), "--overwrite"]).exit_code == 0
    elsewhere = CliRunner().invoke(app, ["report", str(folder), "--to", str(tmp_path / "new" / "page.html")])
    assert elsewhere.exit_code == 0 and (tmp_path / "new" / "page.html").is_file()
    assert CliRunner().invoke(app, ["report", str(tmp_path)]).exit_code == 2
    without = CliRunner().invoke(app, ["report", str(folder), "--overwrite", "--probe", "tetrode"])
    assert without.exit_code == 2 and "--recording" in without.stderr
    SortingResult.load(folder)  # the folder is still a result
    np.savez(
        folder / "measures.npz", **{**vars(result.measurements), "amplitudes_uv": result.measurements.amplitudes_uv[1:]}
    )
    torn = CliRunner().invoke(app, ["report", str(folder), "--overwrite"])
    assert torn.exit_code == 2 and "amplitudes_uv (301,)" in torn.stderr


# ------------------------------------------------------------------------------------------------- in a browser


def show(browser, page, **options):
    reset(browser, **options)
    browser.get(page.as_uri())


def find(browser, selector):
    return browser.find_elements("css selector", selector)


def wait_for(browser, selector):
    """Elements that the page draws after an event, which may be later than the event."""
    from selenium.webdriver.support.ui import WebDriverWait

    return WebDriverWait(browser, 10).until(lambda _: find(browser, selector))


def first_column(browser):
    return [each.text for each in find(browser, "#table tbody th")]


def test_page_draws_and_asks_for_nothing(browser, tetrode_page):
    show(browser, tetrode_page)
    assert len(find(browser, "#charts svg.chart")) == 3 and len(find(browser, "#unit-0 svg.chart")) >= 5
    assert find(browser, "#unit-1 svg") == []  # drawn when it is opened
    find(browser, "#unit-1 summary")[0].click()
    assert len(wait_for(browser, "#unit-1 svg.chart")) >= 5
    paths = [each.get_attribute("d") for each in find(browser, "svg.chart path")]
    assert paths and not any("NaN" in path or "Infinity" in path for path in paths)
    assert console_errors(browser) == []
    assert [url for url in requested_urls(browser) if not url.startswith("data:")] == [tetrode_page.as_uri()]


def test_table_sorts_by_click(browser, large_page):
    show(browser, large_page)
    (head,) = [each for each in find(browser, "#table thead button") if each.text == "SNR"]
    column = "#table tbody tr:not([hidden]) td:nth-child(6)"
    head.click()
    values = browser.execute_script(f"return [...document.querySelectorAll('{column}')].map(e => +e.dataset.value)")
    assert len(values) == 300 and values == sorted(values, reverse=True)
    head.click()
    values = browser.execute_script(f"return [...document.querySelectorAll('{column}')].map(e => +e.dataset.value)")
    assert values == sorted(values)
    assert head.find_element("xpath", "..").get_attribute("aria-sort") == "ascending"
    assert len(find(browser, "#table [aria-sort=ascending], #table [aria-sort=descending]")) == 1


def test_keyboard_is_enough(browser, tetrode_page):
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    show(browser, tetrode_page)
    before = first_column(browser)
    spikes = next(each for each in find(browser, "#table thead button") if each.text == "spikes")
    for _ in range(200):
        ActionChains(browser).send_keys(Keys.TAB).perform()
        if browser.switch_to.active_element == spikes:
            break
    else:
        pytest.fail("the column header cannot be reached with the Tab key")
    ActionChains(browser).send_keys(Keys.ENTER).perform()
    counts = [int(each.text) for each in find(browser, "#table tbody td:nth-child(4)")]
    assert counts == sorted(counts, reverse=True) and sorted(first_column(browser)) == sorted(before)
    ActionChains(browser).send_keys("jj").perform()
    assert find(browser, "#unit-1[open]") and browser.switch_to.active_element == find(browser, "#unit-1 summary")[0]
    ActionChains(browser).send_keys("k").send_keys(Keys.ENTER).perform()
    assert find(browser, "#unit-0:not([open])")
    assert console_errors(browser) == []


def test_links_and_filter(browser, large_page):
    from selenium.webdriver.support.ui import Select

    show(browser, large_page)
    Select(find(browser, "#filter")[0]).select_by_value("mua")
    assert find(browser, "#shown")[0].text == "100 of 300 shown"
    assert {each.text for each in find(browser, "#table tbody tr:not([hidden]) .badge")} == {"mua"}
    find(browser, "#table tbody tr:not([hidden]) th a")[1].click()
    assert find(browser, "#unit-3[open] svg.chart")
    browser.get(large_page.as_uri() + "#unit-299")
    assert find(browser, "#unit-299[open]")


@pytest.mark.parametrize(
    ("starts_s", "expected"),
    [
        (None, [0, 5, 10, 15, 20]),  # in min; segments of 10 min follow each other
        ((0.0, 7200.0), [0, 5, 120, 125, 130]),
        ((600.0, 1200.0), [10, 15, 20, 25, 30]),
    ],
)
def test_ticks_are_times_of_the_recording_in_every_segment(browser, tmp_path, starts_s, expected):
    result, empty = synthetic(2, 40, num_segments=2), (np.zeros(0, dtype=int), np.zeros(0))
    if starts_s:
        result.sorting.register_recording(RecordedTimes(RATE_HZ, [18000000] * 2, starts_s, [empty] * 2))
    show(browser, write_page(result, tmp_path / "page.html"))
    texts = find(browser, 'svg[aria-label="Firing rates"] text[text-anchor="middle"]')
    assert [each.text for each in texts if each.text.isdigit()] == [str(each) for each in expected]


def test_a_unit_is_highlighted_everywhere(browser, tetrode_page):
    from selenium.webdriver.support.ui import Select

    def highlighted():
        clouds = {each.get_attribute("data-unit") for each in find(browser, "#clusters .cloud.chosen")}
        return clouds | {each.get_attribute("data-unit") for each in find(browser, "tr.chosen, .unit-marker.chosen")}

    show(browser, tetrode_page)
    assert len(find(browser, "#clusters svg.chart")) == 7 and highlighted() == set()
    find(browser, '#table tr[data-unit="2"] td.number')[0].click()
    assert highlighted() == {"2"} and len(find(browser, "#clusters .cloud.chosen")) == 7
    assert Select(find(browser, "#highlight")[0]).first_selected_option.text == "2"
    Select(find(browser, "#highlight")[0]).select_by_value("1")
    assert highlighted() == {"1"}
    find(browser, '#cluster-keys button[data-unit="0"]')[0].click()
    assert highlighted() == {"0"}
    assert browser.switch_to.active_element == find(browser, '#cluster-keys button[aria-pressed="true"]')[0]
    find(browser, '#cluster-keys button[data-unit="0"]')[0].click()  # again: none
    assert highlighted() == set()
    find(browser, '#table tr[data-unit="1"] th a')[0].click()
    assert highlighted() == {"1"} and find(browser, "#unit-1[open]")
    assert console_errors(browser) == []


def test_large_probes_show_a_unit_with_its_neighbours(browser, large_page):
    show(browser, large_page)
    find(browser, '#table tr[data-unit="150"] td.number')[0].click()
    shown = [int(each.get_attribute("data-unit")) for each in find(browser, "#cluster-keys button")]
    assert 150 in shown and len(shown) == 7 and max(abs(unit - 150) for unit in shown if unit) < 7
    assert len(find(browser, "#clusters svg.chart")) == 7


@pytest.mark.parametrize("media", ["light", "dark"])
def test_labels_of_units_do_not_overlap(browser, large_page, media):
    show(browser, large_page, color_scheme=media)
    boxes = browser.execute_script(
        "return [...document.querySelector('#charts svg').querySelectorAll('text.halo')]"
        ".map(e => { const b = e.getBBox(); return [b.x, b.y + 2, b.x + b.width, b.y + b.height - 2]; })"
    )
    left, top, right, bottom = np.array(boxes).T
    is_over = (left[:, None] < right) & (left < right[:, None]) & (top[:, None] < bottom) & (top < bottom[:, None])
    assert len(boxes) > 30 and is_over.sum() == len(boxes)


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(browser, large_page, width):
    show(browser, large_page, width=width)
    assert browser.execute_script("return document.documentElement.scrollWidth") <= width


def test_print_shows_what_is_open_and_no_controls(browser, tetrode_page, tmp_path):
    show(browser, tetrode_page, media="print", color_scheme="dark")
    visible = {
        name: any(each.is_displayed() for each in find(browser, name)) for name in ("nav", ".controls", "#unit-0")
    }
    assert visible == {"nav": False, ".controls": False, "#unit-0": True}
    assert not find(browser, "#unit-1")[0].is_displayed()
    colour = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert colour == "rgb(255, 255, 255)"  # ink is not wasted on a dark page
    assert save_pdf(browser, tmp_path / "page.pdf").read_bytes().startswith(b"%PDF")


def test_odd_and_empty_pages_draw(browser, tmp_path):
    pages = {
        "odd": synthetic(2, 40, unit_ids=[ODD, "ü 2"], num_segments=3),
        "one": synthetic(1, 1),
        "bare": synthetic(3, 40),
    }
    pages["bare"].measurements = None
    for name, result in pages.items():
        show(browser, result.write_report(tmp_path / f"{name}.html"))
        find(browser, "#open-all")[0].click()
        assert len(find(browser, "#panels svg.chart")) >= 1 and console_errors(browser) == [], name
    recording = as_recording(np.zeros((3000, 4), dtype="float32"), positions_um=TETRODE_UM)
    show(browser, SpikeSortingPipeline(PcaModel())(recording).write_report(tmp_path / "none.html"))
    assert console_errors(browser) == []


def test_opening_time_of_300_units(browser, large_page, record_property):
    """Reported without a limit: the machine may be busy."""
    reset(browser)
    started = time.perf_counter()
    browser.get(large_page.as_uri())
    seconds = time.perf_counter() - started
    timing = browser.execute_script("return performance.getEntriesByType('navigation')[0].loadEventEnd")
    text = f"300 units, {large_page.stat().st_size / 1e6:.1f} MB: drawn {timing / 1000:.2f} s after navigation began"
    record_property("opening", text)
    print(f"{text} ({seconds:.2f} s with the driver)")  # noqa: T201
    assert len(find(browser, "#unit-0 svg.chart")) >= 5
