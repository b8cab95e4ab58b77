"""Training windows per second that one core draws from phantoms, and where the time goes.

    python benchmarks/phantom_windows.py --scans 32

Reads and writes nothing. Prints milliseconds of CPU time per window, overall and by modality, and the fraction of the
time in each part, from a profile. The time of a part includes everything that it calls.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections import defaultdict
from dataclasses import dataclass, field

from aneurysm.cache.config import InputConfig
from aneurysm.config import run_script
from aneurysm.phantom.config import FIRST_SEED, PhantomWindowsConfig
from aneurysm.phantom.windows import scan_windows

# The functions to print from the profile, by file and name, and what they do.
PARTS = {
    ("person.py", "draw_person"): "persons: vessels, bones, mimics",
    ("shown.py", "look"): "coarse MR images for head and percentiles",
    ("shown.py", "outline"): "outline of the head in CT",
    ("noise.py", "bank"): "noise",
    ("fields.py", "at"): "tissue borders on the lattice",
    ("raster.py", "paint"): "vessels, sacs and their surroundings painted",
    ("compose.py", "compose"): "tissues laid over one another",
    ("windows.py", "sac_target"): "targets: masks of sacs",
}


@dataclass(frozen=True)
class PhantomWindowsBenchmark:
    scans: int = 32
    """scans drawn"""
    input: InputConfig = field(
        default_factory=lambda: InputConfig(288, (0.26, 0.74, 0.2, 0.68), n_slices=5, neighbour_mm=1.5)
    )
    """what a window shows"""
    phantoms: PhantomWindowsConfig = field(default_factory=PhantomWindowsConfig)
    """which windows are drawn"""


def main(config: PhantomWindowsBenchmark) -> None:
    spent, n_windows = defaultdict(float), defaultdict(int)
    for number in range(config.scans):
        start = time.process_time()
        windows = scan_windows(FIRST_SEED, number, config.phantoms, config.input, stride=4)
        spent[windows[0].modality] += time.process_time() - start
        n_windows[windows[0].modality] += len(windows)
    all_ms = 1000 * sum(spent.values()) / sum(n_windows.values())
    print(f"{sum(n_windows.values())} windows, {all_ms:.1f} ms of processor time each, {1000 / all_ms:.0f} /s a core")
    for modality in sorted(spent):
        print(f"  {modality:12} {1000 * spent[modality] / n_windows[modality]:6.1f} ms, {n_windows[modality]} windows")
    profile = cProfile.Profile(time.process_time)
    profile.enable()
    for number in range(config.scans, 2 * config.scans):
        scan_windows(FIRST_SEED, number, config.phantoms, config.input, stride=4)
    profile.disable()
    stats = pstats.Stats(profile)
    whole = stats.total_tt
    print("share of the time, under a profile; parts lie within one another")
    for (file, function), words in PARTS.items():
        own = sum(
            row[3]
            for (path, _, name), row in stats.stats.items()
            if path.endswith(f"phantom/{file}") and name == function
        )
        print(f"  {own / whole:5.0%}  {words}")


if __name__ == "__main__":
    run_script(main, PhantomWindowsBenchmark, __doc__)
