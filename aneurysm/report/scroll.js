// Moves through the slices around each finding: by slider, wheel over a picture, and keys.
"use strict";

const KEYS = {
  ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1, PageUp: 5, PageDown: -5, Home: -Infinity, End: Infinity,
};
const NOTCH = 50; // pixels of the wheel to the next slice: a notch of a mouse is 100 or more, of a touchpad a few
const LINE = 40; // pixels that a wheel means that counts lines
const PAUSE_MS = 400; // so long after the last slice the wheel moves the page again

function connect(viewer) {
  const frames = [...viewer.querySelectorAll(".frames img")];
  const slider = viewer.querySelector("input[type=range]");
  if (!slider) return;
  const enlarged = viewer.querySelector(".enlarged img");
  const text = viewer.querySelector(".now"), back = viewer.querySelector("button");
  const middle = Number(slider.defaultValue);
  let shown = middle, turned = 0, moved = -Infinity;

  function show(number) {
    const next = Math.max(0, Math.min(frames.length - 1, number));
    frames[shown].hidden = true;
    frames[next].hidden = false;
    if (enlarged) enlarged.src = frames[next].src;
    slider.value = next;
    slider.setAttribute("aria-valuetext", frames[next].alt);
    text.textContent = frames[next].alt;
    viewer.toggleAttribute("data-away", next !== middle);
    back.disabled = next === middle;
    const changed = next !== shown;
    shown = next;
    return changed;
  }

  function wheel(event) {
    if (event.ctrlKey || !event.deltaY) return; // a pinch, or sideways
    const step = event.deltaY < 0 ? 1 : -1;
    const last = step > 0 ? frames.length - 1 : 0;
    if (shown === last && event.timeStamp - moved > PAUSE_MS) return; // the page scrolls
    event.preventDefault();
    if (Math.sign(turned) !== Math.sign(event.deltaY)) turned = 0;
    turned += event.deltaMode ? event.deltaY * LINE : event.deltaY;
    if (Math.abs(turned) < NOTCH) return;
    turned = 0;
    show(shown + step);
    moved = event.timeStamp;
  }

  slider.addEventListener("input", () => show(slider.valueAsNumber));
  slider.addEventListener("keydown", event => {
    if (!(event.key in KEYS) || event.ctrlKey || event.altKey || event.metaKey) return;
    event.preventDefault();
    show(shown + KEYS[event.key]);
  });
  for (const pane of viewer.querySelectorAll(".frames, .enlarged")) {
    pane.addEventListener("wheel", wheel, { passive: false });
    pane.addEventListener("click", () => slider.focus({ preventScroll: true }));
  }
  back.addEventListener("click", () => { show(middle); slider.focus({ preventScroll: true }); });
  viewer.querySelector(".control").hidden = false;
  show(middle);
}

document.querySelectorAll(".viewer").forEach(connect);
