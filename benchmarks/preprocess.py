"""Speed of preprocess_data.py against plain writes of as many bytes and a plain reader of the pixels.

    python benchmarks/preprocess.py --workers 2

Makes a synthetic 512 x 512 CT series (uncompressed and RLE) in a temporary folder, removed at the end. The other series
are hard links to its files, so that many series fit into memory and are read from there.

Prints, for each transfer syntax, slices/s, CPU time per slice, and the ratio of the time to that of plain writes of as
many bytes, both until the data are on the disk (sync). In the same run it prints the CPU time of the unavoidable
(reading each file's bytes and writing a slice's bytes) and of pydicom's header and pixels alone. Then it times
preprocess_data.py and plain_preprocess.py in turn, as a user starts them, with and without slice files; the files have
been read before, and nothing is synced. Last, it prints the peak memory of a worker on one long series.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import ExplicitVRLittleEndian, RLELossless

from aneurysm.cache.cache import SLICE_BYTES
from aneurysm.cache.preprocess import CacheSettings, Outcome, died, preprocess_series
from aneurysm.config import parse_config
from aneurysm.parallel import run_all, start_server

SETTINGS = CacheSettings(head_mm=0)
SCRIPT = Path(__file__).parents[1] / "preprocess_data.py"
PLAIN = Path(__file__).with_name("plain_preprocess.py")


@dataclass(frozen=True)
class BenchmarkConfig:
    n_series: int = 6
    """series of each transfer syntax"""
    n_slices: int = 200
    """slices of each"""
    workers: int = 2
    """worker processes"""
    rounds: int = 3
    """rounds"""
    long_series: int = 1400
    """slices of the series whose peak memory is measured"""
    folder: Path = Path(tempfile.gettempdir())
    """where the temporary folder is made: on the disk to be measured"""


def main(config: BenchmarkConfig) -> None:
    start_server("aneurysm.cache.preprocess")
    with tempfile.TemporaryDirectory(dir=config.folder) as folder:
        root = Path(folder)
        for name, syntax in (("uncompressed", ExplicitVRLittleEndian), ("RLE", RLELossless)):
            data_dir = root / name
            uids = [f"s{i}" for i in range(config.n_series)]
            write_series(data_dir / "series" / uids[0], config.n_slices, syntax)
            for uid in uids[1:]:
                shutil.copytree(data_dir / "series" / uids[0], data_dir / "series" / uid, copy_function=os.link)
            rounds = [measure(data_dir, uids, config) for _ in range(config.rounds)]
            print(f"\n{name}: {config.n_series} series of {config.n_slices} slices, {config.workers} workers")
            print("  slices/s   over plain writes |  CPU ms/slice   bytes in and out alone   pydicom alone")
            for seconds, cpu_ms, floor_seconds, copy_ms, decode_ms in rounds:
                n_slices = config.n_series * config.n_slices
                row = (n_slices / seconds, seconds / floor_seconds, cpu_ms, copy_ms, decode_ms)
                print("  {:8.0f}   {:17.2f} |  {:12.2f}   {:22.2f}   {:13.2f}".format(*row))
            print("  slice files   preprocess_data.py, s   plain script, s   ratio")
            for slices in (False, True):
                for _ in range(config.rounds):
                    own, plain = (whole_script(script, data_dir, config, slices) for script in (SCRIPT, PLAIN))
                    print(f"  {slices!s:11}   {own:21.2f}   {plain:15.2f}   {own / plain:5.2f}")
            shutil.rmtree(data_dir)
        write_series(root / "long" / "series" / "a", config.long_series, ExplicitVRLittleEndian)
        print(f"\npeak memory of a worker, {config.long_series} slices: {peak_mb(root / 'long'):.0f} MB")


def write_series(folder: Path, n_slices: int, syntax: str, modality: str = "CT", gap_mm: float = 0.6) -> None:
    """Slices of a skull around noisy tissue, in air that is constant, as scanners write it."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    radius = np.hypot(*(np.mgrid[:512, :512] - 256.0))
    head = np.select([radius < 190, radius < 205], [40, 1000], -1000)
    for k in range(n_slices):
        noise = rng.normal(0, 12, head.shape)
        pixels = (head + np.where(head > -1000, noise, 0) + 1024).astype(np.int16)
        dataset = pydicom.Dataset()
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.SOPClassUID, dataset.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", f"1.2.826.0.1.3680043.8.498.{k + 1}"
        dataset.SeriesInstanceUID, dataset.PatientID = "1.2.826.0.1.3680043.8.498.7", folder.name
        dataset.Modality, dataset.InstanceNumber = modality, k + 1
        dataset.ImagePositionPatient, dataset.ImageOrientationPatient = [0, 0, k * gap_mm], [1, 0, 0, 0, 1, 0]
        dataset.PixelSpacing, dataset.SliceThickness = [0.5, 0.5], gap_mm
        dataset.RescaleSlope, dataset.RescaleIntercept = 1, -1024
        dataset.Rows, dataset.Columns, dataset.SamplesPerPixel = 512, 512, 1
        dataset.PhotometricInterpretation = "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
        dataset.PixelData = pixels.tobytes()
        if syntax == RLELossless:
            dataset.compress(RLELossless, encoding_plugin="pylibjpeg")
        dataset.save_as(folder / f"{k}.dcm", enforce_file_format=True)


def measure(data_dir: Path, uids: list[str], config: BenchmarkConfig) -> tuple[float, float, float, float, float]:
    """Seconds of preprocessing, its CPU ms per slice, seconds of plain writes, CPU ms to copy and to decode a slice."""
    for made in (data_dir / "npy_sequence").glob("*"):
        made.unlink()
    n_slices = config.n_series * config.n_slices
    os.sync()
    start = time.perf_counter()
    done = list(run_all(partial(timed, data_dir), uids, config.workers, died))
    os.sync()
    seconds = time.perf_counter() - start
    failed = [outcome for _, (outcome, _) in done if outcome.kind]
    if failed:
        sys.exit(f"error: {failed[0].message}")
    cpu_ms = 1e3 * sum(cpu for _, (_, cpu) in done) / n_slices
    floor = plain_writes(data_dir, config)
    folder = data_dir / "series" / uids[0]
    return seconds, cpu_ms, floor, bare_copy_ms(folder, data_dir / "copy"), bare_decode_ms(folder)


def whole_script(script: Path, data_dir: Path, config: BenchmarkConfig, slices: bool) -> float:
    """Wall seconds of a script from start to end, with empty output folders."""
    for folder in (data_dir / "npy_sequence", data_dir / "npy_slice"):
        shutil.rmtree(folder, ignore_errors=True)
    command = [sys.executable, script, "--data_dir", data_dir, "--workers", config.workers, "--slices", slices]
    if script == SCRIPT:
        command += ["--head_mm", 0]
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True, capture_output=True, cwd=SCRIPT.parent)
    return time.perf_counter() - start


def timed(data_dir: Path, uid: str) -> tuple[Outcome, float]:
    start = time.process_time()
    outcome = preprocess_series(data_dir, uid, SETTINGS, slices=False)
    return outcome, time.process_time() - start


def plain_writes(data_dir: Path, config: BenchmarkConfig) -> float:
    """Seconds for as many workers to write as many bytes, until they are on the disk."""
    chunk = np.random.default_rng(0).bytes(SLICE_BYTES)
    files = [data_dir / f"plain{i}" for i in range(config.n_series)]
    start = time.perf_counter()
    with ProcessPoolExecutor(config.workers) as pool:
        list(pool.map(write, files, repeat(chunk), repeat(config.n_slices)))
    os.sync()
    seconds = time.perf_counter() - start
    for file in files:
        file.unlink()
    return seconds


def write(path: Path, chunk: bytes, times: int) -> None:
    with open(path, "wb", buffering=0) as file:
        for _ in range(times):
            file.write(chunk)


def bare_copy_ms(folder: Path, out: Path) -> float:
    """CPU milliseconds to read one file's bytes and to write the bytes of one cached slice."""
    chunk = np.random.default_rng(0).bytes(SLICE_BYTES)
    files = sorted(folder.iterdir())
    start = time.process_time()
    with open(out, "wb", buffering=0) as written:
        for file in files:
            file.read_bytes()
            written.write(chunk)
    cpu_ms = 1e3 * (time.process_time() - start) / len(files)
    out.unlink()
    return cpu_ms


def bare_decode_ms(folder: Path) -> float:
    """CPU milliseconds that pydicom takes for the header and pixels of one file, and nothing else."""
    files = sorted(folder.iterdir())[:60]
    start = time.process_time()
    for file in files:
        _ = pydicom.dcmread(file).pixel_array
    return 1e3 * (time.process_time() - start) / len(files)


def peak_mb(data_dir: Path) -> float:
    command = [sys.executable, __file__, "--folder", str(data_dir), "--long_series", "-1"]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def print_peak(data_dir: Path) -> None:
    """Preprocesses one series and prints the peak memory in MB; runs in its own process."""
    outcome = preprocess_series(data_dir, "a", SETTINGS, slices=False)
    if outcome.kind:
        sys.exit(f"error: {outcome.message}")
    # Not getrusage: a new process first counts the memory of its parent as its own.
    print(int(Path("/proc/self/status").read_text().split("VmHWM:")[1].split()[0]) / 1024)


if __name__ == "__main__":
    chosen = parse_config(BenchmarkConfig, __doc__)
    print_peak(chosen.folder) if chosen.long_series < 0 else main(chosen)
