"""The submission to Kaggle: answers for each series that the competition's server hands over.

    ANEURYSM_BUNDLE=bundle ANEURYSM_OUT=. ANEURYSM_SHARED= python kaggle_inference.py

kaggle/README.md tells how it becomes a notebook, and kaggle/inference.ipynb holds its code unchanged. It needs the
package kaggle_evaluation, which comes with the competition's data. Settings are environment variables:

    ANEURYSM_INPUT            /kaggle/input     folder below which the bundle lies
    ANEURYSM_BUNDLE                             the bundle itself, where there are several
    ANEURYSM_OUT              /kaggle/working   folder for the log
    ANEURYSM_SHARED           /kaggle/shared    folder that is emptied after each series; empty: none
    ANEURYSM_DEVICE           auto              cpu, cuda (all GPUs), or auto
    ANEURYSM_THREADS          number of CPUs    threads that decode a series
    ANEURYSM_BATCH_SIZE       32                windows that are encoded at a time
    ANEURYSM_HOURS            12                how long the session lasts
    ANEURYSM_RESERVE_MINUTES  30                of them kept back
    ANEURYSM_N_SERIES         2500              series that are expected

Reads  the bundle of eval_end_to_end.py --export, wheels/ in it or beside it, and the series
Writes kaggle_inference.jsonl, a line a series; submission.parquet is written by kaggle_evaluation
"""

import os
from functools import cache


@cache
def submission():
    """The loaded models; wheels come before everything that imports pydicom, which looks for decoders once."""
    from aneurysm.inference.kaggle_settings import find_bundle, read_settings
    from aneurysm.inference.wheels import add_wheels

    settings = read_settings(os.environ)
    bundle = find_bundle(settings)
    for sentence in add_wheels(bundle):
        print(sentence)
    from aneurysm.inference.submission import Submission

    return Submission.start(settings, bundle)


def predict(series_path: str):
    """One row with the 14 probabilities of the series in a folder. Never raises."""
    return submission().predict(series_path)


def main() -> None:
    submission()  # before the server starts: the first call is then as quick as the others
    from kaggle_evaluation.rsna_inference_server import RSNAInferenceServer

    server = RSNAInferenceServer(predict)
    if os.environ.get("KAGGLE_IS_COMPETITION_RERUN"):
        server.serve()
    else:
        server.run_local_gateway()


if __name__ == "__main__":
    main()
