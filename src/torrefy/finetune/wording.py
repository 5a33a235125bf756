"""Metrics in words: what numbers are called, what they are, and how they are written."""

from __future__ import annotations

import math

NAMES = {
    "accuracy": ("accuracy", "the share of guesses that are right"),
    "top_5": ("top-5 accuracy", "the share where the truth is among the five best guesses"),
    "majority": ("majority", "the accuracy of naming the most frequent class each time"),
    "map": ("mAP", "the mean over tags of their average precision"),
    "micro_f1": ("micro F1", "F1 over all tags of all pictures"),
    "all_right": ("all tags right", "the share of pictures of which every tag is right"),
    "macro_precision": ("macro precision", "of the guesses of a class those that are right; the "
                        "mean over classes"),
    "macro_recall": ("macro recall", "of the pictures of a class those that are found; the mean "
                     "over classes (balanced accuracy)"),
    "macro_f1": ("macro F1", "the harmonic mean of precision and recall; the mean over classes"),
    "weighted_precision": ("weighted precision", "as macro, but a class counts by its pictures"),
    "weighted_recall": ("weighted recall", "as macro, but a class counts by its pictures"),
    "weighted_f1": ("weighted F1", "as macro, but a class counts by its pictures"),
    "log_loss": ("log loss", "minus the mean log of the truth's probability; 0 is best"),
    "ece": ("calibration error", "how far confidence and accuracy are apart on average (ECE, 15 "
            "bins); 0 is best"),
    "mae": ("MAE", "the mean absolute error"),
    "rmse": ("RMSE", "the root of the mean squared error"),
    "r2": ("R²", "1 is best, 0 is what always saying the mean would reach"),
    "mean_error": ("mean error", "how far points are off, as a share of the picture's sides"),
    "pck_5": ("PCK at 5 %", "the share of points that are at most 5 % off"),
    "pck_10": ("PCK at 10 %", "the share of points that are at most 10 % off"),
}  # fmt: skip
"""Of each number of `Metrics.values`: what it is called, and what it is."""
COLUMNS = {
    "support": "pictures", "guessed": "guessed", "precision": "precision", "recall": "recall",
    "f1": "F1", "average_precision": "average precision", "mae": "MAE", "rmse": "RMSE",
    "r2": "R²", "least": "least", "most": "most", "mean_error": "mean error",
    "pck_5": "PCK at 5 %", "pck_10": "PCK at 10 %",
}  # fmt: skip
"""What the columns of `Row.values` are called."""
HEADLINE = {
    "classes": ("accuracy", "macro_f1", "top_5", "majority"),
    "tags": ("map", "micro_f1", "macro_f1", "all_right"),
    "numbers": ("r2", "mae", "rmse"),
    "points": ("mean_error", "pck_5", "pck_10"),
}
"""The numbers of each kind that a reader is shown first."""
PARTS = {"train": "Training", "val": "Validation", "test": "Test"}
EACH = {"classes": "class", "tags": "tag", "numbers": "column", "points": "point"}
"""What a row of each kind is of."""
RANKED = {"classes": "f1", "tags": "f1"}
"""The column by which a kind's rows stand the worst first; the other kinds keep their order."""
_PLAIN = frozenset({"log_loss", "ece", "mae", "rmse", "r2", "least", "most", "support", "guessed"})
UNKNOWN = "–"


def value_text(name: str, value: float) -> str:
    """A number as it is written, by its name or column: "94.2 %", "0.1327"; unknown: "–"."""
    if not math.isfinite(value):
        return UNKNOWN
    if name not in _PLAIN:
        return percent(value)
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def percent(share: float) -> str:
    """A share in percent: what isn't quite all or nothing doesn't look so."""
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    if 0 < share < 0.0005:
        return "< 0.1 %"
    return f"{100 * share:.1f} %" if share < 1 or share > 1 else "100 %"
