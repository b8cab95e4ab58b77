"""From DICOM files to a report: 14 probabilities for each series, where to look, and pages to read it on.

    python predict.py scans/ --out report
    python predict.py head.zip enhanced.dcm series/1.2.826... --bundle bundle --time_budget 30

Each PATH is the folder of a series, a folder of many, one file, or a .zip archive; series are separated by their
SeriesInstanceUID, also within one folder. Research use, not a medical device.

Reads  the DICOM files, and the included models, or a bundle that eval_end_to_end.py --export has made
Writes <out>/<uid>.html and <uid>.json for each series, index.html and predictions.csv for all of them, the most
       suspicious first; with --dicom_sr and --dicom_seg <uid>_sr.dcm and <uid>_seg.dcm, with --nifti <uid>.nii.gz and
       <uid>_sac.nii.gz

Exit code 0: every series has an answer. 3: some could not be read; they are listed with the reason. 1: bad input.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from tempfile import TemporaryDirectory

from aneurysm.config import run_script
from aneurysm.package import bundle_folder
from aneurysm.training.config import InferenceConfig

N_PICTURES = 3
SOME_UNREAD = 3  # exit code


@dataclass(frozen=True)
class PredictConfig(InferenceConfig):
    paths: tuple[Path, ...]
    """folders, files and .zip archives with DICOM series"""
    bundle: Path = field(default_factory=bundle_folder)
    """models: the included ones, trained on synthetic heads only, or a folder from eval_end_to_end.py --export"""
    out: Path = Path("report")
    """folder for the report"""
    device: str = "auto"
    """cpu, cuda (all GPUs), or auto"""
    time_budget: float = 0.0
    """seconds that the models may take for a series, after decoding; mirrored views and volume3d are left out first,
    then folds, then slices. 0: all they need"""
    resume: bool = False
    """reuse the predictions of the same bundle for the same files from an earlier run without time budget; no DICOM
    objects or NIfTI files are made of these"""
    dicom_sr: bool = False
    """also write the findings as a DICOM structured report (TID 1500); needs the extra `dicom`"""
    dicom_seg: bool = False
    """also write the places of the findings as a DICOM segmentation; needs the extra `dicom`"""
    nifti: bool = False
    """also write each series, and the probability of an aneurysm at each place of it, as NIfTI files"""
    min_probability: float = 0.1
    """findings of a lower probability are left out of these DICOM objects; 0 to 1"""


def main(config: PredictConfig) -> int:
    # What needs torch is imported here: --help does not wait for it.
    from tqdm import tqdm

    from aneurysm.dicom.find import find_series, without_scouts
    from aneurysm.escape import escape_control_characters
    from aneurysm.inference.bundle import bundle_identity
    from aneurysm.inference.predict import Predictor
    from aneurysm.report.dicom_source import need_highdicom
    from aneurysm.report.folder import write_lists
    from aneurysm.report.run import Extras, write_reports
    from aneurysm.training.distributed import all_devices

    if config.dicom_sr or config.dicom_seg:
        need_highdicom()
    predictor = Predictor.of_bundle(
        config.bundle,
        all_devices(config.device),
        batch_size=config.batch_size,
        n_pictures=N_PICTURES,
        precision=config.precision,
        maps=config.nifti,
    )
    identity = bundle_identity(config.bundle)
    print(f"models: {config.bundle}; probabilities: {identity['calibration']}")
    for note in filter(None, [identity["note"], *predictor.notes]):
        print(f"note: {note}")
    if config.time_budget:
        predictor.warm_up()  # measures the pace: without it the first series would take what it takes
    with TemporaryDirectory() as unpacked:
        found, left_out = without_scouts(find_series(config.paths, Path(unpacked)))
        kinds = tuple(kind for kind, wanted in (("sr", config.dicom_sr), ("seg", config.dicom_seg)) if wanted)
        extras = Extras(kinds, config.min_probability, config.nifti)
        written = write_reports(
            found, predictor, identity, config.out, extras, config.workers, config.time_budget or inf, config.resume
        )
        records = list(tqdm(written, total=len(found), unit="series"))
    write_lists(config.out, records)
    unread = [record for record in records if record["failure"]]
    for record in unread:
        print(escape_control_characters(f"no answer for {record['series_uid']}: {record['failure']}"))
    for sentence in left_out:
        print(escape_control_characters(f"left out: {sentence}"))
    print(f"{len(records)} series, {len(unread)} could not be read\n{config.out / 'index.html'}")
    return SOME_UNREAD if unread else 0


def command() -> None:
    run_script(main, PredictConfig, __doc__, named="paths")


if __name__ == "__main__":
    command()
