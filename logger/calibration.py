"""Whether what is said with 90 % confidence is right nine times out of ten: bins of confidence, and the gap in each."""

import numpy as np
import pandas as pd

NUM_BINS = 15


class Calibration:
    """Images in bins of equal width by the confidence of their predictions; a bin holds its upper edge.

    Source: Guo et al., "On Calibration of Modern Neural Networks" (2017), arXiv 1706.04599, section 2.

    Args:
        confidence_N: probability of the predicted class.
        is_right_N: whether it is the true one.
        num_bins: between 0 and 1.
    """

    def __init__(self, confidence_N: np.ndarray, is_right_N: np.ndarray, num_bins: int = NUM_BINS):
        self.num_bins = num_bins
        self.edges = np.linspace(0, 1, num_bins + 1)
        self.confidence_N, self.is_right_N = confidence_N, is_right_N
        self.gap_N = confidence_N - is_right_N
        self.bin_N = np.searchsorted(self.edges[1:-1], confidence_N, side="left")

    def error(self, positions: np.ndarray | None = None) -> float:
        """Expected calibration error of all images, or of those at some positions: the mean gap, by images."""
        gap_N, bin_N = (self.gap_N, self.bin_N) if positions is None else (self.gap_N[positions], self.bin_N[positions])
        return float(np.abs(np.bincount(bin_N, weights=gap_N)).sum() / len(gap_N))

    def table(self) -> pd.DataFrame:
        """A row a bin: low, high, count, and mean confidence and accuracy, which are NaN where it is empty."""
        count = np.bincount(self.bin_N, minlength=self.num_bins)
        means = {}
        for name, values_N in (("confidence", self.confidence_N), ("accuracy", self.is_right_N)):
            total = np.bincount(self.bin_N, weights=values_N, minlength=self.num_bins)
            means[name] = np.divide(total, count, out=np.full(self.num_bins, np.nan), where=count > 0)
        return pd.DataFrame({"low": self.edges[:-1], "high": self.edges[1:], "count": count, **means})
