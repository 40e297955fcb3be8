"""Pictures of a sorting, and the report: one HTML page."""
