"""The side of the competition: asks about every series in random order, checks each row, writes submission.parquet.

    GATEWAY_DATA=data/series GATEWAY_SHARE=shared GATEWAY_OUT=out python -m kaggle_evaluation.rsna_gateway

GATEWAY_DATA is a folder of series folders. They are handed over below GATEWAY_SHARE: as a link to the folder for every
second series, as a folder of links to the files for the others. GATEWAY_DEADLINE_S (1800) is the deadline of each call
but the first, GATEWAY_PORT that of the server.
"""

from __future__ import annotations

import os
import random
from pathlib import Path

import grpc
import numpy as np
import pandas as pd

from aneurysm.labels import LABELS
from kaggle_evaluation.messages import METHOD, unpacked

FRAMES = ("polars.DataFrame", "pandas.DataFrame")
START_S = 15 * 60  # in which the server has to answer


def port() -> int:
    return int(os.environ.get("GATEWAY_PORT", "50051"))


class RSNAGateway:
    def __init__(self, data_paths: tuple[str] | None = None):
        self.data = Path(data_paths[0] if data_paths else os.environ["GATEWAY_DATA"]).absolute()
        self.share, self.out = Path(os.environ["GATEWAY_SHARE"]), Path(os.environ["GATEWAY_OUT"])
        self.deadline_s = float(os.environ.get("GATEWAY_DEADLINE_S", "1800"))
        self.kind = ""  # of frame, which must be the same each time

    def run(self) -> None:
        """Raises grpc.RpcError where `predict` has raised or was late, ValueError where its answer is not valid."""
        uids = sorted(os.listdir(self.data))
        random.Random(0).shuffle(uids)
        rows = []
        with grpc.insecure_channel(f"localhost:{port()}") as channel:
            grpc.channel_ready_future(channel).result(START_S)
            predict = channel.unary_unary(METHOD)
            for number, uid in enumerate(uids):
                place = self._share(uid, whole=number % 2 == 0)
                answer = predict(str(place).encode(), timeout=self.deadline_s if number else None)
                rows.append(self._checked(uid, *unpacked(answer)))
                if os.listdir(self.share):
                    raise ValueError(f"{self.share}: expected an empty folder after {uid}")
        self.out.mkdir(parents=True, exist_ok=True)
        pd.concat(rows, ignore_index=True).to_parquet(self.out / "submission.parquet")

    def _share(self, uid: str, whole: bool) -> Path:
        place = self.share / "series" / uid
        place.parent.mkdir(parents=True, exist_ok=True)
        if whole:
            place.symlink_to(self.data / uid, target_is_directory=True)
        else:
            place.mkdir()
            for file in (self.data / uid).iterdir():
                (place / file.name).symlink_to(file)
        return place

    def _checked(self, uid: str, kind: str, frame: pd.DataFrame | None) -> pd.DataFrame:
        self.kind = self.kind or kind
        if kind not in FRAMES or kind != self.kind:
            raise ValueError(f"{uid}: expected {self.kind if self.kind in FRAMES else FRAMES}, found {kind}")
        if list(frame) != list(LABELS) or len(frame) != 1:
            raise ValueError(f"{uid}: expected one row of the 14 labels, found {len(frame)} of {list(frame)}")
        values = frame.to_numpy()
        if values.dtype != np.float64 or not np.isfinite(values).all() or values.min() < 0 or values.max() > 1:
            raise ValueError(f"{uid}: expected probabilities, found {values.tolist()}")
        frame.insert(0, "SeriesInstanceUID", uid)
        return frame


if __name__ == "__main__":
    RSNAGateway().run()
