"""Names of checkpoints -> folders with their files. Imports neither torch nor the rest of the package."""
