"""How much memory code takes on series of few and of many slices, each in a process of its own."""

import subprocess
import sys
from pathlib import Path

from tests.dicom_writer import write_stack
from tests.preprocess_script import ROOT, head_ct

# Not getrusage: before exec, a new process has the peak of the one that it was forked from.
PRINT_PEAK = "\nprint(open('/proc/self/status').read().split('VmHWM:')[1].split()[0])"


def peak_mb_of_few_and_many_slices(code: str, folder: Path) -> list[float]:
    """Peak memory, in MB, of `code` on a series `a` of 50 and of one of 400 slices; sys.argv[1] is the data folder."""
    peaks = []
    for n_slices in (50, 400):
        data = folder / str(n_slices)
        write_stack(data / "series" / "a", head_ct(n_slices, 256), spacing=(0.5, 1.0, 1.0))
        command = [sys.executable, "-c", code + PRINT_PEAK, str(data)]
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        peaks.append(float(result.stdout) / 1024)
    return peaks
