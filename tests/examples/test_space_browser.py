"""The page of examples/space/ in a browser. Needs gradio, in an environment of its own: `make test-space`."""

import json
import re
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from browser import console_errors, requested_urls, reset

pytest.importorskip("gradio", reason="gradio is not installed here: make test-space")
sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "space"))

import app  # noqa: E402
import recordings  # noqa: E402

LIMITS = recordings.Limits(max_megabytes=1, max_channels=8)
PATIENCE_S = 120
QUICK = "four seconds"


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """Where the page is served, with a small limit and a short recording more."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("gradio")
        patch.setenv("GRADIO_TEMP_DIR", str(folder))
        patch.setattr("tempfile.tempdir", str(folder))
        patch.setitem(recordings.BUILT_IN, QUICK, dict(probe="tetrode", num_units=3, duration_s=4.0, seed=1))
        page = app.build_app(LIMITS)
        options = dict(prevent_thread_lock=True, quiet=True, server_name="127.0.0.1")
        _, url, _ = app.launch(page, LIMITS, **options)
        yield url, folder
        page.close(verbose=False)


@pytest.fixture
def page(browser, address):
    reset(browser)
    browser.get(address[0])
    wait(lambda: browser.find_elements("id", "sort"))
    return browser


def wait(condition):
    """What it gives when it gives something."""
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, "the page did not get there"
        time.sleep(0.2)
    return found


def choose(page, words):
    (label,) = (each for each in page.find_elements("css selector", "#source label") if words in each.text)
    label.click()


def upload(page, path):
    field = wait(lambda: page.find_elements("css selector", "#upload input[type=file]"))[0]
    field.send_keys(str(path))


def toast(page):
    return " ".join(each.text for each in page.find_elements("css selector", ".toast-body"))


def write_recording(path):
    recording, _ = recordings.simulate(QUICK)
    np.save(path, np.round(recording.get_traces(return_in_uV=True)).astype("int16"))
    return path


def test_a_built_in_recording_is_sorted_and_reported(page, address):
    """With progress, numbers that can be checked, and a frame in which the report has drawn itself."""
    choose(page, QUICK)
    page.find_element("id", "sort").click()
    stages = set()

    def look():
        stages.update(re.findall(r"stage \d of 8: \w+", page.find_element("id", "summary").text))
        return page.find_elements("css selector", "#report iframe")

    wait(look)
    assert stages
    summary = page.find_element("id", "summary").text
    assert "from 4 s of 4 channels" in summary and "of 3 units" in summary
    frame = page.find_element("css selector", "#report iframe")
    assert "allow-same-origin" not in frame.get_attribute("sandbox")
    page.switch_to.frame(frame)
    assert re.match(r"\d units?, 4.0 s", page.find_element("tag name", "h1").text)
    assert page.find_elements("css selector", "table tbody tr")
    page.switch_to.default_content()
    assert console_errors(page) == []
    foreign = [url for url in requested_urls(page) if not url.startswith((address[0], "data:", "blob:", "about:"))]
    assert foreign == []


def test_an_own_recording_is_sorted_and_deleted(page, address, tmp_path):
    path = write_recording(tmp_path / "rat.npy")
    choose(page, app.OWN)
    upload(page, path)
    wait(lambda: list(address[1].rglob("rat.npy")))
    wait(lambda: "rat" in page.find_element("id", "upload").text)
    page.find_element("id", "sort").click()
    wait(lambda: "units" in page.find_element("id", "summary").text)
    assert "truth" not in page.find_element("id", "summary").text
    wait(lambda: not list(address[1].rglob("rat.npy")))
    assert not list(address[1].rglob("huidurep-*"))  # what was written meanwhile
    assert [path.name for path in address[1].rglob("*.zip")] == ["huidurep.zip"] * len(list(address[1].rglob("*.zip")))
    assert console_errors(page) == []


def test_too_large_and_foreign_uploads_are_refused(page, address, tmp_path):
    large = tmp_path / "large.bin"
    large.write_bytes(bytes(2_000_000))
    choose(page, app.OWN)
    upload(page, large)
    wait(lambda: "exceed the maximum allowed size" in toast(page))
    assert not list(address[1].rglob("large.bin"))
    odd = tmp_path / "odd.bin"
    odd.write_bytes(bytes(1001))
    upload(page, odd)
    wait(lambda: "odd" in page.find_element("id", "upload").text)
    page.find_element("id", "sort").click()
    wait(lambda: "check the number of channels" in toast(page))
    assert list(address[1].rglob("odd.bin"))  # still there: the fields can be corrected


def test_no_file_of_the_server_is_read(address, tmp_path, capfd):
    """Whoever speaks to the server without the page may name only what was uploaded."""
    httpx = pytest.importorskip("httpx")
    api, secret = f"{address[0]}gradio_api", write_recording(tmp_path / "secret.npy")
    dependencies = httpx.get(f"{address[0]}config").json()["dependencies"]
    file = {"path": str(secret), "meta": {"_type": "gradio.FileData"}}
    values = [app.OWN, app.AUTO, file, 30000, 4, "int16", 0, recordings.UNKNOWN, 20, None]
    (sort,) = (each for each in dependencies if len(each["inputs"]) == len(values))
    body = {"data": values, "fn_index": sort["id"], "session_hash": "stranger"}
    assert httpx.post(f"{api}/queue/join", json=body).is_success
    with httpx.stream("GET", f"{api}/queue/data?session_hash=stranger", timeout=PATIENCE_S) as stream:
        (ended,) = (line for line in stream.iter_lines() if "process_completed" in line)
    assert json.loads(ended.removeprefix("data:"))["success"] is False
    assert "InvalidPathError" in capfd.readouterr().err
    assert httpx.get(f"{api}/file={secret}").status_code == 403
