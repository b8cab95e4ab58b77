"""Reads thousands of damaged DICOM files, each from a seed; none may end but in a series or a ValueError that names it.

    python -m tests.fuzz_reader --n 10000 --seconds 3600 --keep /tmp/bad

Reads  sound files made here, those that come inside pydicom, and those below --sound where it is there
Writes <keep>/<seed>-<source>: the files that ended otherwise, or took longer than --hang
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pydicom

from tests.dicom_damage import DAMAGES
from tests.sound_files import whole_files

ROOT = Path(__file__).parents[1]
BUNDLED = Path(pydicom.__file__).parent / "data" / "test_files"
LARGEST = 2_000_000  # bytes: what is larger is one of the small ones, many times


class Reader:
    """A process that reads one file after another, begun again when it has died or hung."""

    def __init__(self, hang_s: float):
        self.hang_s, self.process, self.n_deaths = hang_s, None, 0

    def __call__(self, path: Path) -> dict:
        if self.process is None:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.read_damaged"], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=ROOT,
            )  # fmt: skip
            assert self.process.stdout.readline() == "ready\n"
        timer = Timer(self.hang_s, self.process.kill)
        timer.start()
        self.process.stdin.write(f"{path}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        timer.cancel()
        if line:
            return json.loads(line)
        code, self.process, self.n_deaths = self.process.wait(), None, self.n_deaths + 1
        return {"trouble": f"hang of {self.hang_s:g} s, or crash: exit {code}", "read": False, "cpu_s": self.hang_s}


def damaged(sources: list[Path], seed: int) -> tuple[str, bytes]:
    """(what was done, the bytes): up to three kinds of damage to a file, or to one that ends like another."""
    rng = random.Random(seed)
    source = rng.choice(sources)
    data, done = bytearray(source.read_bytes()), [source.name]
    if rng.random() < 0.1:
        other = rng.choice(sources)
        end = other.read_bytes()
        data[rng.randrange(len(data)) :] = end[rng.randrange(len(end)) :]
        done.append(f"with the end of {other.name}")
    for damage in rng.choices(DAMAGES, k=rng.choice((1, 1, 2, 3))):
        with suppress(Exception):  # some parse the file, and it may be too damaged for that by now
            data = damage(data, rng)
            done.append(damage.__name__)
    return ", ".join(done), bytes(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=10_000, help="damaged files")
    parser.add_argument("--first", type=int, default=0, help="seed of the first; the others follow")
    parser.add_argument("--seconds", type=float, default=3600, help="end after so long, whatever has been read by then")
    parser.add_argument("--hang", type=float, default=90, help="seconds that a file may take; a decoder may take 60")
    parser.add_argument("--keep", type=Path, default=Path("/tmp/bad_dicom"), help="folder for files that made trouble")
    parser.add_argument("--sound", type=Path, default=ROOT.parent / "shared" / "dicom", help="more files to damage")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        sources = [*whole_files(Path(scratch) / "sound").values()]
        sources += [file for folder in (BUNDLED, given.sound) for file in sorted(folder.rglob("*")) if file.is_file()]
        reader = Reader(given.hang)
        sources = [file for file in sources if file.stat().st_size <= LARGEST and reader(file)["read"]]
        fuzz(reader, sources, given, Path(scratch))


def fuzz(reader: Reader, sources: list[Path], given: argparse.Namespace, scratch: Path) -> None:
    start, counts, slowest, held = time.monotonic(), Counter(), (0.0, 0), []
    for seed in range(given.first, given.first + given.n):
        what, data = damaged(sources, seed)
        path = scratch / f"{seed}.dcm"
        path.write_bytes(data)
        output = reader(path)
        counts["read" if output["read"] else "refused"] += not output["trouble"]
        slowest = max(slowest, (output["cpu_s"], seed))
        held += [(output["held_gib"], output["peak_gib"])] if "held_gib" in output else []
        if output["trouble"]:
            counts["trouble"] += 1
            given.keep.mkdir(parents=True, exist_ok=True)
            path.rename(given.keep / f"{seed}.dcm")
            print(f"{seed}: {output['trouble'][:300]} ({what})", flush=True)
        path.unlink(missing_ok=True)
        if time.monotonic() - start > given.seconds:
            break
    print(f"{sum(counts.values())} damaged files of {len(sources)} sources, seeds {given.first} to {seed}, "
          f"in {time.monotonic() - start:.0f} s")  # fmt: skip
    print(f"{counts['read']} read, {counts['refused']} refused by name, {counts['trouble']} ended otherwise "
          f"({reader.n_deaths} crashes and hangs)")  # fmt: skip
    first, last, peak = held[0][0], held[-1][0], max(peak for _, peak in held)
    print(f"slowest {slowest[0]:.1f} s of CPU (seed {slowest[1]}); memory held {first:.2f} GiB after the first file, "
          f"{last:.2f} after the last, {peak:.2f} at most")  # fmt: skip


if __name__ == "__main__":
    main()
