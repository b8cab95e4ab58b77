"""Makes the submission notebook from kaggle_inference.py, whose code it contains unchanged.

    python kaggle/make_notebook.py

Reads  kaggle_inference.py
Writes kaggle/inference.ipynb, the same bytes each time
"""

from __future__ import annotations

import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "kaggle" / "inference.ipynb"

ABOUT = """\
# Intracranial aneurysms: the submission

Answers every series that the competition's server hands over. Attach the competition and the dataset that
`kaggle/make_dataset.py` has made (code, models, wheels), choose the accelerator GPU T4 x2, leave the internet off, and
submit. `kaggle/README.md` of the project tells each step. This notebook is made by `kaggle/make_notebook.py`.
"""

# Finds the project's code and the competition's package: neither has a fixed place below /kaggle/input.
FIND = """\
import os
import sys

WANTED = {"aneurysm": "labels.py", "kaggle_evaluation": "rsna_inference_server.py"}
for place, folders, files in os.walk(os.environ.get("ANEURYSM_INPUT", "/kaggle/input")):
    folders[:] = sorted(set(folders) - {"series", "segmentations"})  # a million files
    if WANTED.get(os.path.basename(place)) in files and os.path.dirname(place) not in sys.path:
        sys.path.append(os.path.dirname(place))
        print(place)
"""


def notebook() -> str:
    """The notebook as JSON (nbformat 4.5)."""
    cells = [
        _cell("about", "markdown", ABOUT),
        _cell("find-code", "code", FIND),
        _cell("submission", "code", (ROOT / "kaggle_inference.py").read_text()),
    ]
    metadata = {
        "kaggle": {"accelerator": "nvidiaTeslaT4", "isGpuEnabled": True, "isInternetEnabled": False,
                   "language": "python", "sourceType": "notebook"},
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }  # fmt: skip
    return json.dumps({"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _cell(name: str, kind: str, text: str) -> dict:
    cell = {"cell_type": kind, "id": name, "metadata": {}, "source": text.rstrip("\n").splitlines(keepends=True)}
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


if __name__ == "__main__":
    NOTEBOOK.write_text(notebook())
    print(NOTEBOOK)
