"""The time budget of each series in a submission, so that the last one is answered before the session ends.

A series may use an equal share of the remaining time, or all the time that earlier series saved relative to an even
pace: large series use what small ones leave.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LONGEST_S = 25 * 60.0  # the gateway aborts a call after 30 minutes
MORE = 0.03  # of the series done so far: at least this share is assumed to follow, even beyond n_expected


@dataclass
class Clock:
    """Starts with the submission; call next_budget_s once before each series.

    total_s     seconds from the start until the last series must be answered
    n_expected  expected number of series; if more come, each gets less time; if fewer, time is left over
    now         seconds of a monotonic clock
    """

    total_s: float
    n_expected: int
    now: Callable[[], float] = time.monotonic
    n_asked: int = 0
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.now()

    def next_budget_s(self) -> float:
        """Seconds for the next series, from 0 to LONGEST_S; 0 if the time is up."""
        n_done, self.n_asked = self.n_asked, self.n_asked + 1
        n_left = max(self.n_expected - n_done, math.ceil(MORE * n_done), 1)
        elapsed_s = self.now() - self.started_s
        share_s = (self.total_s - elapsed_s) / n_left
        even_pace_s = self.total_s * (n_done + 1) / (n_done + n_left)  # when this series ends at an even pace
        return min(max(share_s, even_pace_s - elapsed_s, 0.0), LONGEST_S)
