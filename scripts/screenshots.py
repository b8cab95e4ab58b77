"""Pictures of a report's pages, as Chromium or Chrome shows them, for the README.

    python scripts/screenshots.py --report report --out content

Reads  index.html and the JSON files of a folder that predict.py has written
Writes report_index.png  the list; report.png  the page of the most suspicious series; report_phone.png  the same on a
       dark phone. Without a browser on the PATH, or a series that was read, it says what is left out
"""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from aneurysm.config import run_script
from aneurysm.labels import PRESENT
from aneurysm.paths import atomic_write
from aneurysm.report.page import page_name

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@dataclass(frozen=True)
class ScreenshotsConfig:
    report: Path = Path("report")
    """folder that predict.py has written"""
    out: Path = Path("content")
    """folder for the pictures"""


def main(config: ScreenshotsConfig) -> None:
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    page = most_suspicious(config.report)
    if browser is None or page is None:
        print(
            f"left out: pictures of {config.report}; expected one of {', '.join(BROWSERS)} and a series that was read"
        )
        return
    for name, shown, size, dark in (
        ("report_index.png", "index.html", (960, 690), False),
        ("report.png", page, (1190, 1440), False),
        ("report_phone.png", page, (400, 900), True),
    ):
        shoot(browser, config.report / shown, config.out / name, size, dark)
        print(f"drawn: {config.out / name}, {shown}")


def most_suspicious(report: Path) -> str | None:
    """The name of the page of the series with the highest Aneurysm Present; None where no series was read."""
    records = [json.loads(path.read_text()) for path in sorted(report.glob("*.json"))]
    read = [record for record in records if record.get("probabilities")]
    return page_name(max(read, key=lambda record: record["probabilities"][PRESENT])) if read else None


def shoot(browser: str, page: Path, out: Path, size: tuple[int, int], dark: bool) -> None:
    """Writes the PNG `out` of the upper part of a page, of this width and height in CSS pixels, two pixels to each."""
    with tempfile.TemporaryDirectory() as profile, atomic_write(out) as beside:
        shot = Path(profile) / "shot.png"
        command = [
            browser, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--force-device-scale-factor=2", f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}",
            f"--screenshot={shot}", *(["--blink-settings=preferredColorScheme=0"] if dark else []),
            page.absolute().as_uri(),
        ]  # fmt: skip
        subprocess.run(command, check=True, capture_output=True, timeout=100)
        shutil.copyfile(shot, beside)


if __name__ == "__main__":
    run_script(main, ScreenshotsConfig, __doc__)
