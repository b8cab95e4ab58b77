"""Chromium as a test drives it: real keys, wheel and clicks, by the DevTools protocol over two pipes."""

from __future__ import annotations

import base64
import fcntl
import json
import os
import shutil
import subprocess
from pathlib import Path
from time import monotonic

import pytest

PROGRAM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
MISSING = "no Chromium or Chrome on the PATH (on Debian and Ubuntu: apt install chromium)"
needs_browser = pytest.mark.skipif(PROGRAM is None, reason=MISSING)
LONGEST_S = 60


class Browser:
    """One page at a time. `complaints` are the console's errors and warnings since the page was opened."""

    def __init__(self, profile: Path, dark: bool = False):
        commands, answers = os.pipe(), os.pipe()
        theirs = [fcntl.fcntl(fd, fcntl.F_DUPFD, 10) for fd in (commands[0], answers[1])]
        command = [
            PROGRAM, "--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--remote-debugging-pipe",
            f"--user-data-dir={profile}", *(["--blink-settings=preferredColorScheme=0"] if dark else []), "about:blank",
        ]  # fmt: skip

        def place() -> None:  # the protocol is on 3 and 4
            os.dup2(theirs[0], 3)
            os.dup2(theirs[1], 4)

        self.process = subprocess.Popen(
            command, close_fds=False, preexec_fn=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for fd in (commands[0], answers[1], *theirs):
            os.close(fd)
        self.commands, self.answers = commands[1], answers[0]
        self.n_sent, self.session, self.complaints, self.loaded, self._read = 0, None, [], False, b""
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self.session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """Ends it with all its processes."""
        os.write(self.commands, json.dumps({"id": 0, "method": "Browser.close"}).encode() + b"\0")
        try:
            self.process.wait(LONGEST_S)
        finally:
            self.process.kill()
        os.close(self.commands)
        os.close(self.answers)

    def send(self, method: str, **settings) -> dict:
        """The answer to a command of the protocol."""
        self.n_sent += 1
        message = {"id": self.n_sent, "method": method, "params": settings}
        message |= {"sessionId": self.session} if self.session else {}
        os.write(self.commands, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self.n_sent:
            self._note(answer)
        assert "error" not in answer, f"{method}: {answer}"
        return answer["result"]

    def open(
        self, page: Path, width: int = 1280, height: int = 900, scheme: str = "light", script: bool = True
    ) -> None:
        """Shows a page, whose scripts run if `script`, and waits until it is loaded."""
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        self.send("Emulation.setScriptExecutionDisabled", value=not script)
        self.complaints, self.loaded = [], False
        self.send("Page.navigate", url=page.as_uri())
        end = monotonic() + LONGEST_S
        while not self.loaded:
            assert monotonic() < end, f"{page} does not load"
            self._note(self._receive())

    def predict(self, expression: str):
        """The value of a JavaScript expression in the page, whose policy does not bind it."""
        found = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def press(self, key: str) -> None:
        for kind in ("rawKeyDown", "keyUp"):
            codes = {"Tab": 9, "PageUp": 33, "PageDown": 34, "End": 35, "Home": 36, "ArrowLeft": 37, "ArrowUp": 38,
                     "ArrowRight": 39, "ArrowDown": 40}  # fmt: skip
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])

    def wheel(self, selector: str, pixels: float) -> None:
        """A turn of the wheel over the middle of an element, down where `pixels` is positive."""
        x, y = self.middle_of(selector)
        self.send("Input.dispatchMouseEvent", type="mouseWheel", x=x, y=y, deltaX=0, deltaY=pixels)

    def click(self, selector: str, share: float = 0.5) -> None:
        """A click into an element, at a share of its width."""
        x, y = self.middle_of(selector, share)
        for kind in ("mousePressed", "mouseReleased"):
            self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def middle_of(self, selector: str, share: float = 0.5) -> tuple[float, float]:
        """Of the element, which is scrolled into view, in CSS pixels of the window."""
        place = self.predict(f"""(() => {{
            const element = document.querySelector({json.dumps(selector)});
            element.scrollIntoView({{ block: "center" }});
            const box = element.getBoundingClientRect();
            return [box.left, box.top, box.width, box.height];
        }})()""")
        return place[0] + share * place[2], place[1] + place[3] / 2

    def shoot(self, out: Path, whole: bool = True) -> None:
        """Writes a PNG of the whole page, or of the window."""
        shot = self.send("Page.captureScreenshot", captureBeyondViewport=whole, **self._clip(whole))
        out.write_bytes(base64.b64decode(shot["data"]))

    def _clip(self, whole: bool) -> dict:
        if not whole:
            return {}
        size = self.send("Page.getLayoutMetrics")["cssContentSize"]
        return {"clip": {"x": 0, "y": 0, "width": size["width"], "height": size["height"], "scale": 1}}

    def _receive(self) -> dict:
        while b"\0" not in self._read:
            part = os.read(self.answers, 1 << 20)
            assert part, "the browser has ended"
            self._read += part
        message, _, self._read = self._read.partition(b"\0")
        return json.loads(message)

    def _note(self, message: dict) -> None:
        about = message.get("params", {})
        if message.get("method") == "Page.loadEventFired":
            self.loaded = True
        elif message.get("method") == "Log.entryAdded":
            self.complaints.append(about["entry"]["text"])
        elif message.get("method") in ("Runtime.consoleAPICalled", "Runtime.exceptionThrown"):
            self.complaints.append(json.dumps(about)[:500])
