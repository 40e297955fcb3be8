"""A headless Chromium for tests of pages, with its own profile, its network requests and its console messages.

Chromium is not a Python package. Tests with the fixture `browser` are skipped where Chromium or its driver is missing
(Debian: apt-get install chromium chromium-driver).
"""

import base64
import json
import shutil

import pytest

PROGRAMS = (("chromium", "chromium-browser", "google-chrome"), ("chromedriver", "chromium.chromedriver"))
SWITCHES = (
    "--headless",
    "--no-sandbox",  # root, as in most containers, may not use the sandbox
    "--disable-gpu",
    "--disable-dev-shm-usage",  # the shared memory of a container is small
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-color-profile=srgb",
    "--hide-scrollbars",
)
LOAD_TIMEOUT_S = 60


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """Selenium's driver of one Chromium for the whole run; every test calls `reset` first."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install huidurep[dev]")
    chromium, chromedriver = (next(filter(None, map(shutil.which, names)), None) for names in PROGRAMS)
    if not chromium or not chromedriver:
        pytest.skip("no Chromium with its driver on the PATH (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for switch in (*SWITCHES, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(switch)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # without the path of the driver, selenium would download one
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=chromedriver))
    driver.set_page_load_timeout(LOAD_TIMEOUT_S)
    yield driver
    driver.quit()


def reset(driver, *, width=1280, height=900, media="screen", color_scheme="light"):
    """Open an empty page of this size (CSS pixels), medium ("screen", "print") and scheme ("light", "dark")."""
    driver.get("about:blank")
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": "prefers-color-scheme", "value": color_scheme}]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media, "features": features})
    for name in ("browser", "performance"):
        driver.get_log(name)


def console_errors(driver):
    """Errors on the console since the last call, including exceptions of scripts."""
    return [entry["message"] for entry in driver.get_log("browser") if entry["level"] == "SEVERE"]


def requested_urls(driver):
    """Addresses that the page has requested since the last call, its own first."""
    messages = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    return [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]


def save_screenshot(driver, path, *, full_page=False):
    """Save a PNG of the window, or of the whole page."""
    options = {"format": "png", "captureBeyondViewport": full_page}
    if full_page:
        size = driver.execute_cdp_cmd("Page.getLayoutMetrics", {})["cssContentSize"]
        options["clip"] = {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}
    path.write_bytes(base64.b64decode(driver.execute_cdp_cmd("Page.captureScreenshot", options)["data"]))
    return path


def save_pdf(driver, path):
    """Save the page as it is printed."""
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    options = {"printBackground": True, "preferCSSPageSize": True}
    path.write_bytes(base64.b64decode(driver.execute_cdp_cmd("Page.printToPDF", options)["data"]))
    return path
