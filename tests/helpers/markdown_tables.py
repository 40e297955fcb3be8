"""Markdown tables without the spaces that align their columns."""

import re


def without_padding(text):
    """Text whose table cells have one space on either side."""
    return re.sub(r"^ (?=\|)|(?<=\|) $", "", re.sub(r" *\| *", " | ", text), flags=re.MULTILINE)
