"""The HTML pages of a report: one for each series, and an index. Each is a single, self-contained file."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from aneurysm.labels import LABELS, LOCATIONS, PRESENT
from aneurysm.paths import atomic_write
from aneurysm.report.curve import draw_curve
from aneurysm.report.slice_view import LINE_FLOOR, slice_views

if TYPE_CHECKING:
    from aneurysm.inference.pictures import Picture

LONGEST_NAME = 120  # characters of a UID in the name of its page
THUMBNAIL_BYTES = 3_000_000  # all thumbnails of the index together, at most


def page_name(record: dict) -> str:
    """The file name of a series' page: its UID if that is a safe name, else a safe version with a checksum."""
    uid = record["series_uid"]
    safe = re.sub(r"[^A-Za-z0-9._-]", "_", uid)[:LONGEST_NAME]
    if safe != uid or safe.startswith(".") or safe.lower() in {"", "index"}:
        checksum = hashlib.sha256(uid.encode("utf-8", "backslashreplace")).hexdigest()[:12]
        safe = f"{safe.lstrip('.')}-{checksum}"
    return f"{safe}.html"


def write_page(out: Path, record: dict, pictures: Sequence[Picture]) -> None:
    """Writes the page of one series to `out`; `record` is from record_of, `pictures` are the slices to show."""
    answered = record["probabilities"] is not None
    shown = pictures if answered else ()
    _write(
        out, "series.html", record=record, strongest=strongest_location(record) if answered else None,
        curve=draw_curve(record, shown) if answered else None,
        views=slice_views(shown, record["plane"], record["type"]),
        script="scroll.js" if shown else None,
    )  # fmt: skip


def write_index(out: Path, records: Sequence[dict]) -> None:
    """Writes the index of all series to `out`, beside their pages: the most suspicious first; failed ones apart.

    The first ones show the `thumbnail` of their record, as many as fit into THUMBNAIL_BYTES.
    """
    read = [record for record in records if record["probabilities"] is not None]
    read.sort(key=lambda record: -record["probabilities"][PRESENT])
    unread = [record for record in records if record["probabilities"] is None]
    thumbnails = [record.get("thumbnail") or "" for record in read]
    sizes = np.cumsum([len(source) for source in thumbnails])
    thumbnails = [source if size <= THUMBNAIL_BYTES else "" for source, size in zip(thumbnails, sizes, strict=True)]
    n_without = int((sizes > THUMBNAIL_BYTES).sum())
    _write(out, "index.html", read=read, unread=unread, thumbnails=thumbnails, n_without=n_without)


def strongest_location(record: dict) -> str:
    """The most probable of the 13 locations."""
    return max(LOCATIONS, key=record["probabilities"].__getitem__)


def _write(out: Path, template: str, script: str | None = None, **content) -> None:
    """`script` is the only script that the page may run: its checksum is in the content security policy."""
    environment = _environment()
    text = environment.get_template(script).render() if script else ""
    page = environment.get_template(template).render(
        labels=LABELS, present=PRESENT, line_floor=LINE_FLOOR, page_name=page_name,
        strongest_location=strongest_location, script=script,
        script_sha256=base64.b64encode(hashlib.sha256(text.encode()).digest()).decode(), **content,
    )  # fmt: skip
    with atomic_write(out) as beside:
        beside.write_text(page, encoding="utf-8", errors="backslashreplace")  # file names may not be valid UTF-8


def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["two"] = lambda value: f"{round(float(value), 2) + 0.0:.2f}"  # + 0.0: no minus before zero
    environment.filters["percent"] = lambda share: f"{100 * min(max(float(share), 0.0), 1.0):.2f}%"
    environment.filters["file_name"] = lambda path: PurePath(path).name
    return environment
