"""sorting/job_kwargs.py: number of workers and size of chunks of SpikeInterface's components."""

import pytest

from huidurep.sorting.job_kwargs import in_chunks, resolve_job_kwargs


@pytest.mark.parametrize("given", [None, {}, {"n_jobs": 1}, {"chunk_duration": "1s"}])
def test_a_step_has_chunks_of_its_own(given):
    for job_kwargs in (given, resolve_job_kwargs(given)):  # the pipeline has resolved them already
        assert in_chunks(job_kwargs, "500ms") == resolve_job_kwargs(job_kwargs) | {"chunk_duration": "500ms"}


@pytest.mark.parametrize("chosen", [{"chunk_size": 900}, {"chunk_duration": "100ms"}, {"total_memory": "1G"}])
def test_chunks_that_were_chosen_stay(chosen):
    found = in_chunks(chosen, "500ms")
    assert found == resolve_job_kwargs(chosen) and found.items() >= chosen.items()
