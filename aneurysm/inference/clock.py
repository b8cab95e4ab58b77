"""How long each series of a submission may take, so that the last one is answered before the session is ended.

A series may take an equal share of the time that is left, or all that earlier series have saved against an even
pace: large series live on what small ones leave.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field

LONGEST_S = 25 * 60.0  # the gateway gives up a call after 30 minutes
MORE = 0.03  # share of the series asked about so far that may always still come, however many were expected


@dataclass
class Clock:
    """Starts with the submission; asked once before each series.

    total_s     seconds from now until the last series has to be answered
    n_expected  series that are expected; more of them shorten the time of each, fewer waste some
    now         seconds on a clock that never goes back
    """

    total_s: float
    n_expected: int
    now: Callable[[], float] = time.monotonic
    n_asked: int = 0
    started_s: float = field(init=False)

    def __post_init__(self) -> None:
        self.started_s = self.now()

    def next_budget_s(self) -> float:
        """Seconds for the next series, from 0 to LONGEST_S; 0 where the time is over."""
        n_done, self.n_asked = self.n_asked, self.n_asked + 1
        n_left = max(self.n_expected - n_done, math.ceil(MORE * n_done), 1)
        elapsed_s = self.now() - self.started_s
        share_s = (self.total_s - elapsed_s) / n_left
        even_pace_s = self.total_s * (n_done + 1) / (n_done + n_left)  # when this series ends at an even pace
        return min(max(share_s, even_pace_s - elapsed_s, 0.0), LONGEST_S)
