"""The package inside SpikeInterface, scikit-learn and transformers."""
