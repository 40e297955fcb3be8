"""Pieces of which the Markdown tables are made."""

PRINTED = ("huidurep", "spikeinterface", "torch", "numpy", "scikit-learn")


def markdown(head, rows):
    """Markdown table; the first column is left-aligned, the others right."""
    lines = ["| " + " | ".join(head) + " |", "|" + "|".join(["---"] + ["---:"] * (len(head) - 1)) + "|"]
    return "\n".join(lines + ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows])


def bold_best(values, digits=2):
    """Numbers as text, the largest in bold; None becomes a dash."""
    present = [round(value, digits) for value in values if value is not None]
    best = max(present, default=None)
    text = ["-" if value is None else f"{value:.{digits}f}" for value in values]
    return [f"**{t}**" if v is not None and round(v, digits) == best else t for t, v in zip(text, values, strict=True)]


def header_note(header):
    versions = ", ".join(f"{name} {header['versions'][name]}" for name in PRINTED)
    machine = header["machine"]
    where = f"{machine['processor']}, {machine['cores']} cores"
    return f"Commit {header['commit']}, seed {header['seed']}, {versions}; {where}."


def mean_of(values):
    """Mean of numbers, None where one is missing."""
    values = list(values)
    return None if not values or None in values else sum(values) / len(values)
