"""The encoder: configuration, network, input contract, loading. Published as remote code."""
