"""The report of a sorting as one HTML page that needs nothing else: no network, no server, no other file."""

from .page import write_page

__all__ = ["write_page"]
