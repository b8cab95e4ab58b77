// Looks at the page it stands in, and tells the page around it what is wrong; see test_report_browser.py.
"use strict";

const CLOSE = 1.5; // pixels by which boxes may overlap: letters leave room in theirs

function visibleTexts() {
  // Each line of each text that is seen: its box, cut to what its scrolling boxes show.
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const texts = [];
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || parent.closest("script, style, title")) continue;
    const range = document.createRange();
    range.selectNodeContents(node);
    for (const rect of range.getClientRects()) {
      const box = { left: rect.left, right: rect.right, top: rect.top, bottom: rect.bottom };
      for (let around = parent; around; around = around.parentElement) {
        if (getComputedStyle(around).overflowX === "visible") continue;
        const edge = around.getBoundingClientRect();
        box.left = Math.max(box.left, edge.left);
        box.right = Math.min(box.right, edge.right);
      }
      const seen = box.right - box.left > 1 && box.bottom - box.top > 1;
      if (seen) texts.push({ node, parent, box, words: node.data.trim() });
    }
  }
  return texts;
}

function overlaps(texts) {
  const found = [];
  for (let i = 0; i < texts.length; i++) {
    for (let k = i + 1; k < texts.length; k++) {
      const a = texts[i].box, b = texts[k].box;
      const across = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const down = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (texts[i].node !== texts[k].node && across > CLOSE && down > CLOSE) {
        found.push([texts[i].words.slice(0, 60), texts[k].words.slice(0, 60), across, down]);
      }
    }
  }
  return found;
}

function outside(texts) {
  // Texts that stick out of the card they stand in.
  return texts.filter(({ parent, box }) => {
    const card = parent.closest(".card, header");
    const edge = card.getBoundingClientRect();
    return box.left < edge.left - 0.5 || box.right > edge.right + 0.5 || box.bottom > edge.bottom + 0.5;
  }).map(text => text.words.slice(0, 60));
}

function rgba(colour) {
  const numbers = colour.match(/[\d.]+/g).map(Number);
  return [...numbers.slice(0, 3), numbers.length > 3 ? numbers[3] : 1];
}

function background(element) {
  // The colour behind an element, half-transparent layers laid over each other.
  const layers = [];
  for (let around = element; around; around = around.parentElement) {
    const layer = rgba(getComputedStyle(around).backgroundColor);
    layers.push(layer);
    if (layer[3] === 1) break;
  }
  return layers.reverse().reduce((below, [r, g, b, a]) =>
    [r, g, b].map((value, i) => a * value + (1 - a) * below[i]), [255, 255, 255]);
}

function luminance(colour) {
  // WCAG 2.2, relative luminance
  const [r, g, b] = colour.slice(0, 3).map(value => value / 255)
    .map(value => value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

function contrast(element) {
  const style = getComputedStyle(element);
  const letters = rgba(element instanceof SVGElement ? style.fill : style.color);
  const [high, low] = [luminance(letters), luminance(background(element))].sort((a, b) => b - a);
  return (high + 0.05) / (low + 0.05);
}

function pictures() {
  // The images that are seen in panes: how far each lies from where the drawing over it says.
  return [...document.querySelectorAll(".pane")].map(pane => {
    const image = pane.querySelector("img:not([hidden])"), svg = pane.querySelector("svg");
    const box = (svg || pane).getBoundingClientRect(), a = image.getBoundingClientRect();
    const view = svg ? svg.viewBox.baseVal : { x: -0.5, y: -0.5, width: image.naturalWidth, height: image.naturalHeight };
    const scale = box.width / view.width;
    const left = box.left - (view.x + 0.5) * scale, top = box.top - (view.y + 0.5) * scale;
    return {
      natural_width: image.naturalWidth, wide: box.width,
      off: Math.max(Math.abs(a.left - left), Math.abs(a.top - top), Math.abs(a.width - image.naturalWidth * scale),
        Math.abs(a.height - image.naturalHeight * scale), Math.abs(box.width - pane.clientWidth)),
    };
  });
}

function toggled() {
  // For each box: whether its lines are seen at first, after one click, and after another.
  return [...document.querySelectorAll("article input[type=checkbox]")].map(box => {
    const line = box.closest("article").querySelector(".outline");
    const seen = () => line.getBoundingClientRect().width > 0;
    const states = [seen()];
    for (let click = 0; click < 2; click++) {
      box.click();
      states.push(seen());
    }
    return states;
  });
}

addEventListener("load", async () => {
  document.querySelectorAll("details").forEach(details => { details.open = true; });
  await Promise.all([...document.images].map(image => image.decode().catch(() => {})));
  const texts = visibleTexts();
  parent.postMessage({
    name: window.name, width: innerWidth, page_width: document.documentElement.scrollWidth, texts: texts.length,
    background: background(document.body), overlaps: overlaps(texts), outside: outside(texts),
    faint: texts.map(text => [text.words.slice(0, 60), contrast(text.parent)]).filter(([, found]) => found < 4.5),
    images: pictures(), toggled: toggled(), links: [...document.links].map(link => link.getAttribute("href")),
  }, "*");
});
