"""The sorting road: SpikeInterface, numpy and scikit-learn; never torch, never the model.

The files stand in the order in which data flows: `parameters`, `preprocessing`, `detection`, `waveforms`,
`merging`, `matching`, `export`; `run_log` is what each stage reports to. `clustering` lies above both roads, for
`training` finds its pseudo-units by the same rule.
"""
