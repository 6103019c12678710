// The map of all answers, or of a sample of them, with its legend.
import { html, render } from "lit-html";
import { whole } from "./format.js";
import { finderOf, imagesOf, layersOf, selectionOf } from "./map_layers.js";
import { paint } from "./map_painting.js";
import { showTip } from "./map_tip.js";
import { zoomable } from "./map_zoom.js";
import { BANDS } from "./thresholds.js";

const REACH = 12; // pixels from the pointer to a dot that it is on
const MANY = 3000; // from here on, dots are smaller

export function map(content) {
  const canvas = Object.assign(document.createElement("canvas"), { tabIndex: 0, role: "img", ariaLabel: "World map of the answers" });
  const tip = Object.assign(document.createElement("div"), { className: "tip", hidden: true });
  const legend = document.createElement("div");
  const zoom = interactive(content, canvas, tip, legend);
  const button = (text, name, press) => html`<button type="button" aria-label=${name} @click=${press}>${text}</button>`;
  return html`
    <h2>Map</h2>
    <p class="note">${note(content)}</p>
    <div class="map">
      ${canvas}
      <div class="controls">
        ${button("+", "Zoom in", () => zoom.by(1.7))}
        ${button("−", "Zoom out", () => zoom.by(1 / 1.7))}
        ${button("↺", "Whole world", zoom.reset)}
      </div>
      ${tip}
    </div>
    ${legend}`;
}

function note({ metrics, map, num_drawable }) {
  const dots = metrics
    ? "A dot is the true place, coloured by the error; a line leads to the answer."
    : "A dot is an answer, coloured by the radius that holds the truth with a probability of 90 %.";
  const sampled =
    map.id.length < num_drawable &&
    `A random ${whole(map.id.length)} of ${whole(num_drawable)} answered images are drawn; the figures and charts are of all.`;
  const use =
    "Drag to move; zoom with the buttons, a double click, or the wheel after a click. Click the legend to hide and show.";
  return [dots, sampled, use].filter(Boolean).join(" ");
}

// Draws the map whenever what it shows changes; returns its zoom.
function interactive(content, canvas, tip, legend) {
  const images = imagesOf(content.map);
  const layers = layersOf(content.world, images);
  const dotWidth = images.length > MANY ? 3 : 4.4;
  const shown = new Set(BANDS);
  const isShown = ({ band }) => !band || shown.has(band);
  let find = finderOf(images);
  let selected;
  const draw = () => paint(canvas, [...layers.filter(isShown), ...selectionOf(selected)], zoom.transform(), dotWidth);
  const select = (image, x, y) => {
    const changed = image !== selected;
    selected = image;
    showTip(tip, image, x, y);
    if (changed) draw();
  };
  const point = ({ offsetX, offsetY }) => {
    const [x, y, pixel] = zoom.inPlane(offsetX, offsetY);
    select(find(x, y, REACH * pixel), offsetX, offsetY);
  };
  const zoom = zoomable(canvas, () => {
    select(undefined);
    draw();
  });
  canvas.addEventListener("pointermove", (event) => event.buttons || point(event));
  canvas.addEventListener("click", point);
  canvas.addEventListener("pointerleave", () => select(undefined));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  renderLegend(legend, images, shown, () => {
    find = finderOf(images.filter(isShown));
    draw();
  });
  return zoom;
}

function renderLegend(legend, images, shown, changed) {
  const toggle = (band) => {
    if (!shown.delete(band)) shown.add(band);
    renderLegend(legend, images, shown, changed);
    changed();
  };
  const button = (band) => html`<button type="button" aria-pressed=${shown.has(band)} @click=${() => toggle(band)}>
    <i class="${band.color}"></i><span>${band.label}</span>
    <small>${whole(images.filter((image) => image.band === band).length)}</small>
  </button>`;
  render(html`<div class="legend" role="group" aria-label="Shown on the map">${BANDS.map(button)}</div>`, legend);
}
