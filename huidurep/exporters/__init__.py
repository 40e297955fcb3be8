"""A sorting as SpikeInterface's analyzer, as a phy folder and as an NWB file, and back after curation."""
