"""Figures of a sorting, and the report: one HTML file."""
