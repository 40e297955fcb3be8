"""Web page that sorts a recording and shows its report: a Hugging Face Space, or `python app.py` on any computer.

Needs the packages of the extra `space`.
"""

import html
import os
import shutil
import tempfile
import time
from pathlib import Path

os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when gradio is imported

import gradio as gr  # noqa: E402
from recordings import (  # noqa: E402
    BUILT_IN,
    COLUMN,
    PROBE_FILE,
    PROBES,
    SAMPLE_TYPES,
    SUFFIXES,
    UNKNOWN,
    Description,
    Limits,
    read_upload,
    simulate,
)
from spikeinterface.comparison import compare_sorter_to_ground_truth  # noqa: E402

import huidurep  # noqa: E402

OWN = "my own recording"
AUTO = "auto: by the probe"
WELL_DETECTED = 0.8  # as in SpikeInterface's comparisons
INTRODUCTION = """# HuiduRep: spike sorting in the browser
A small pretrained network embeds each spike, and a mixture model, which also estimates the number of units, clusters
the embeddings. Choose a recording, press **Sort**, and read the report."""
TERMS = """Up to {limits.max_megabytes:g} MB, {limits.max_channels} channels and {minutes:g} minutes. The file is
deleted when it is sorted, or after an hour; do not upload confidential data. Raw samples (time x channel) need all
fields below, `.npy` all but channels and sample type, NWB none."""
# Fonts of the visitor's system: no downloads from other servers.
THEME = gr.themes.Soft(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
CSS = """
#report * { padding: 0 }
#report iframe { width: 100%; height: 85vh; border: 1px solid var(--border-color-primary) }
"""


def build_app(limits=Limits()):  # noqa: B008 - frozen
    """The page."""
    with gr.Blocks(title="HuiduRep", analytics_enabled=False, delete_cache=(600, 3600)) as app:
        gr.Markdown(INTRODUCTION)
        with gr.Row():
            source = gr.Radio(
                [*BUILT_IN, OWN], value=next(iter(BUILT_IN)), label="Recording", elem_id="source", min_width=300
            )
            checkpoint = gr.Dropdown(
                [AUTO, *huidurep.list_checkpoints()],
                value=AUTO,
                label="Checkpoint",
                elem_id="checkpoint",
                min_width=300,
            )
        with gr.Column(visible=False) as own:
            gr.Markdown(TERMS.format(limits=limits, minutes=limits.max_duration_s / 60))
            fields = _upload_fields(limits)
        source.change(lambda chosen: gr.Column(visible=chosen == OWN), source, own, api_visibility="private")
        button = gr.Button("Sort", variant="primary", elem_id="sort")
        summary = gr.Markdown(elem_id="summary", min_height=60)
        with gr.Row():
            results = gr.DownloadButton("All results (zip)", visible=False, elem_id="results")
            page = gr.DownloadButton("The report (HTML)", visible=False, elem_id="page")
        report = gr.HTML(elem_id="report")
        outputs = [summary, results, page, report]
        cleared = button.click(_clear, None, outputs, api_visibility="private")
        cleared.then(
            lambda *values, progress=gr.Progress(): (yield from _sort(limits, progress, *values)),  # noqa: B008
            [source, checkpoint, *fields],
            [*outputs, fields[0]],
            show_progress_on=summary,
            api_visibility="private",
        )
    app.queue(default_concurrency_limit=1, max_size=16)
    return app


def _clear():
    """Outputs without the result of an earlier recording."""
    hidden = gr.DownloadButton(visible=False)
    return "", hidden, hidden, ""


def _upload_fields(limits):
    """Fields for the uploaded file, and for the properties that it does not contain."""
    label = f"One file: {', '.join(SUFFIXES)}"
    upload = gr.File(label=label, file_types=list(SUFFIXES), elem_id="upload", height=140)
    with gr.Row():
        frequency = gr.Number(30000, label="Sampling frequency (Hz)", minimum=0)
        channels = gr.Number(4, label="Channels", precision=0, minimum=1)
        dtype = gr.Dropdown(list(SAMPLE_TYPES), value="int16", label="Sample type")
        gain = gr.Number(0, label="Gain, uV (0: unknown)", minimum=0)
    with gr.Row():
        probe = gr.Dropdown(list(PROBES), value=UNKNOWN, label="Positions of the contacts")
        pitch = gr.Number(20, label="Distance between neighbouring contacts (um)", visible=False, minimum=0)
        probe_file = gr.File(label="Probe", file_types=[".json"], visible=False, height=120)
    probe.change(
        lambda chosen: (gr.Number(visible=chosen == COLUMN), gr.File(visible=chosen == PROBE_FILE)),
        probe,
        [pitch, probe_file],
        api_visibility="private",
    )
    return [upload, frequency, channels, dtype, gain, probe, pitch, probe_file]


def _sort(limits, progress, source, checkpoint, upload, *described):
    """Yield the outputs of the page, and delete the upload and the result."""
    description, started = Description(*described), time.monotonic()

    def show(done, stage):
        if time.monotonic() - started > limits.max_sorting_s:
            raise TimeoutError(
                f"The sorting took longer than {limits.max_sorting_s:.0f} s and was stopped: try a shorter recording."
            )
        progress(done, desc=stage)

    try:
        progress(0.0, desc="loading the recording")
        recording, truth = simulate(source) if source in BUILT_IN else (read_upload(upload, description, limits), None)
        pipeline = huidurep.SpikeSortingPipeline.from_pretrained("auto" if checkpoint == AUTO else checkpoint)
        with tempfile.TemporaryDirectory(prefix="huidurep-") as folder:
            result = pipeline(recording, progress=show)
            output = result.save(Path(folder) / "huidurep")
            page = result.write_report(output / "report.html")
            archive = shutil.make_archive(str(output), "zip", folder, output.name)
            seconds = time.monotonic() - started
            yield (
                _describe(result, recording, truth, seconds),
                gr.DownloadButton(value=archive, visible=True),
                gr.DownloadButton(value=str(page), visible=True),
                _frame(page.read_text(encoding="utf8")),
                None,
            )
        if source == OWN:
            Path(upload).unlink(missing_ok=True)
    except (ValueError, TypeError, OSError) as error:
        raise gr.Error(str(error), duration=None, print_exception=False) from error


def _describe(result, recording, truth, seconds):
    sorting = result.sorting
    good = int((sorting.get_property("quality") == "good").sum())
    text = (
        f"**{sorting.get_num_units()} units** ({good} good) with {len(result.posteriors)} spikes, from "
        f"{recording.get_total_duration():.0f} s of {recording.get_num_channels()} channels, in {seconds:.0f} s with "
        f"the checkpoint `{result.model_name}`."
    )
    if truth is None:
        return text
    accuracy = compare_sorter_to_ground_truth(truth, sorting).get_performance()["accuracy"].astype(float)
    found = int((accuracy >= WELL_DETECTED).sum())
    return text + (
        f" Compared with the ground truth, {found} of {len(accuracy)} units are detected with an accuracy of "
        f"{WELL_DETECTED} or more; the mean accuracy is {accuracy.mean():.2f}."
    )


def _frame(page):
    """The report in a sandboxed frame: its scripts cannot access this page."""
    return f'<iframe title="Report" sandbox="allow-scripts allow-downloads" srcdoc="{html.escape(page)}"></iframe>'


def launch(app, limits=Limits(), **options):  # noqa: B008 - frozen
    """Serve the page; uploads above the limit are refused."""
    size = f"{limits.max_megabytes:g}mb"
    return app.launch(theme=THEME, css=CSS, max_file_size=size, footer_links=[], ssr_mode=False, **options)


if __name__ == "__main__":
    launch(build_app())
