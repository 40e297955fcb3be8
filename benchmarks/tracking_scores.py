"""Scores of the tracking benchmark: pooled over the sets of sessions of a kind of probe."""

import numpy as np
from sklearn.metrics import roc_auc_score
from table_text import markdown, rows_note

MIN_PRECISION = 0.95
CALIBRATION_BINS = (0.5, 0.7, 0.85, 0.95, 1.0)


def recall_at_precision(scores, same, min_precision=MIN_PRECISION):
    """Largest recall of a threshold at which the precision is reached; 0 if there is none."""
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(same[order])
    precision = hits / np.arange(1, len(order) + 1)
    is_last = np.append(np.diff(scores[order]) != 0, True)  # equal scores pass a threshold together
    return float((hits / max(same.sum(), 1))[(precision >= min_precision) & is_last].max(initial=0.0))


def calibration_table(probabilities, same):
    """[lowest, highest probability, mean of them, share that is right, number] of each bin with pairs."""
    bins = []
    for low, high in zip(CALIBRATION_BINS[:-1], CALIBRATION_BINS[1:], strict=True):
        inside = (probabilities >= low) & ((probabilities < high) | (high == 1.0))
        if inside.any():
            mean, right = float(probabilities[inside].mean()), float(same[inside].mean())
            bins.append([low, high, round(mean, 3), round(right, 3), int(inside.sum())])
    return bins


def pool(kind, measured):
    """Scores of a kind of probe; `measured` has (row, same, scores by method) of each set of sessions."""
    same = np.concatenate([each for _, each, _ in measured])
    methods = {}
    for name in measured[0][2]:
        values = np.concatenate([scores[name] for *_, scores in measured])
        recall = round(recall_at_precision(values, same), 3)
        methods[name] = dict(auc=round(float(roc_auc_score(same, values)), 3), recall=recall)
    own = np.concatenate([scores["huidurep"] for *_, scores in measured])
    right, joined, total = np.sum([row["joined"] for row, *_ in measured], axis=0)
    best_peer = max(each["recall"] for name, each in methods.items() if "huidurep" not in name)
    errors = np.concatenate([row["displacement_errors_um"] for row, *_ in measured])
    return dict(
        kind=kind,
        num_sets=len(measured),
        num_pairs=int(total),
        methods=methods,
        tracks=dict(precision=round(right / max(joined, 1), 3), recall=round(right / max(total, 1), 3)),
        margin=round(methods["huidurep"]["recall"] - best_peer, 3),
        displacement_error_um=[round(float(each), 1) for each in np.quantile(errors, (0.5, 0.9))]
        if len(errors)
        else [],
        calibration=calibration_table(own, same),
    )


def print_table(kinds):
    """Area under the curve and recall of each method on each kind of probe, and how well probabilities hold."""
    for each in kinds:
        print(f"\n{each['kind']}: {each['num_sets']} sets of sessions, {each['num_pairs']} pairs of one neuron")
        print(f"  {'':<38}{'AUC':>7}{'recall at 95 % precision':>28}")
        for name, scores in each["methods"].items():
            print(f"  {name:<38}{scores['auc']:>7.3f}{scores['recall']:>28.3f}")
        reached = "reached" if each["margin"] >= 0.1 else "missed"
        print(f"  margin over the better peer {each['margin']:+.3f} (target +.10: {reached})")
        print(f"  neurons: precision {each['tracks']['precision']:.3f}, recall {each['tracks']['recall']:.3f}")
        print(f"  error of the displacement, um: median / 90th percentile {_two(each['displacement_error_um'])}")
        for low, high, mean, right, number in each["calibration"]:
            print(f"  probability {low:g} to {high:g} (mean {mean:.3f}): {right:.3f} right of {number}")


def tracking_block(results):
    """Block of a file of tracking.py: area under the curve and recall of each method, and how probabilities hold."""
    kinds, lines = results["rows"], []
    methods = list(dict.fromkeys(name for each in kinds for name in each["methods"]))
    for name in methods:
        scores = [each["methods"].get(name) for each in kinds]
        lines.append([name, *("-" if each is None else f"{each['auc']:.3f} / {each['recall']:.2f}" for each in scores)])
    margins = [f"{each['margin']:+.2f}, {'reached' if each['margin'] >= 0.1 else 'missed'}" for each in kinds]
    lines.append(["margin over the better peer (target +.10)", *margins])
    lines.append(["neurons: precision / recall", *(_two(each["tracks"].values()) for each in kinds)])
    lines.append(
        ["displacement error, um: median / 90th percentile", *(_two(each["displacement_error_um"]) for each in kinds)]
    )
    for low, high in zip(CALIBRATION_BINS[:-1], CALIBRATION_BINS[1:], strict=True):
        found = [next((bin_ for bin_ in each["calibration"] if bin_[0] == low), None) for each in kinds]
        cells = ["-" if bin_ is None else f"{bin_[2]:.2f}: {bin_[3]:.2f} of {bin_[4]}" for bin_ in found]
        lines.append([f"probability {low:g} to {high:g}, mean: share that is right", *cells])
    head = ["AUC / recall at 95 % precision", *(f"{each['kind']} ({each['num_pairs']} pairs)" for each in kinds)]
    version = results["header"]["versions"].get("UnitMatchPy", "not installed")
    seeds = "; ".join(f"{each['kind']}: {min(each['seeds'])} to {max(each['seeds'])}" for each in kinds)
    note = f"{rows_note(results)} UnitMatchPy {version}. Seeds of the sets: {seeds}."
    return f"{markdown(head, lines)}\n\n{note}"


def _two(values):
    return " / ".join(f"{each:.2f}" for each in values) or "not measurable"
