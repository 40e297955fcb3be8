"""Text of the benchmark tables: means of groups of rows, the best value in bold, Markdown by pandas."""

import pandas as pd

PRINTED = ("huidurep", "spikeinterface", "torch", "numpy", "scikit-learn")
UPPER_BOUND = "oracle"  # a column or line that is no competitor, and therefore never bold


def markdown(head, rows):
    """Markdown table of rows of values; the first column is left-aligned, the others right-aligned."""
    alignment = ["left", *["right"] * (len(head) - 1)]
    return pd.DataFrame(rows, columns=head).to_markdown(index=False, disable_numparse=True, colalign=alignment)


def frame_markdown(frame, title, labels=None):
    """Markdown table of a DataFrame, whose index becomes the first column, with other names for columns if given."""
    return markdown([title, *frame.rename(columns=labels or {}).columns], frame.itertuples(name=None))


def bold_best(values):
    """Text of a Series of numbers with two digits, the largest in bold; NaN becomes a dash."""
    text = values.map("{:.2f}".format).where(values.notna(), "-")
    shown = pd.to_numeric(text, errors="coerce")  # values that read the same are all in bold
    is_best = shown.eq(shown.drop(UPPER_BOUND, errors="ignore").max()) & (shown.index != UPPER_BOUND)
    return text.mask(is_best, "**" + text + "**")


def mean_of(values):
    """Mean of numbers; None if there are none or one of them is None."""
    values = list(values)
    return None if not values or None in values else sum(values) / len(values)


def mean_scores(scores):
    """Mean of dictionaries of scores by method, as a Series of the methods that have a score in each of them."""
    return pd.DataFrame(list(scores)).mean(skipna=False).dropna()


def score_frame(groups, methods, field=lambda row: row["mean"]):
    """Mean scores of groups of rows as a DataFrame (groups, methods), NaN where a row has no score.

    `groups` has the rows by the name of the group, `field` returns the scores of a row by method.
    """
    means = {name: mean_scores(map(field, rows)) for name, rows in groups.items()}
    return pd.DataFrame.from_dict(means, orient="index").reindex(index=list(groups), columns=methods)


def details(summary, *tables):
    """Tables that the page shows after a click."""
    return "\n\n".join([f'<details markdown="1"><summary>{summary}</summary>', *tables, "</details>"])


def header_note(header):
    """Sentence with the commit, seed, versions and machine of a run."""
    versions = ", ".join(f"{name} {header['versions'][name]}" for name in PRINTED)
    where = f"{header['machine']['processor']}, {header['machine']['cores']} cores"
    return f"Commit {header['commit']}, seed {header['seed']}, {versions}; {where}."


def rows_note(results):
    """The same, with the commits of the rows if they differ from that of the latest run."""
    commits = sorted({row["commit"] for row in results["rows"]})
    other = f" Rows measured at commit {', '.join(commits)}."
    return header_note(results["header"]) + other * (commits != [results["header"]["commit"]])
