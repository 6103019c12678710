// Maps of all answers, or of a sample of them, with their legends: by error, by whether radii hold, by which run is nearer.
import { quadtree, zoomTransform } from "d3";
import { html, nothing } from "lit-html";
import { whole } from "./format.js";
import { PLANE, imagesOf, layersOf, selectionOf } from "./map_layers.js";
import { paint } from "./map_painting.js";
import { showTip } from "./map_tip.js";
import { zoomable } from "./map_zoom.js";
import { BANDS, COVERED, NEARER, bandOf, coveredOf, nearerOf } from "./thresholds.js";

const REACH = 12; // pixels from the pointer to a dot that it is on
const MANY = 3000; // from here on, dots are smaller

export const map = (content) =>
  drawn(content, {
    title: "Map",
    note: content.metrics
      ? "A dot is the true place, coloured by the error; a line leads to the answer."
      : "A dot is an answer, coloured by the radius that holds the truth with a probability of 90 %.",
    bands: BANDS,
    bandOf: ({ km }) => bandOf(km),
    withLines: true,
  });

export function coverage(content) {
  if (!content.metrics || !content.map.radius_km_90.some((radius) => radius !== null)) return nothing;
  return drawn(content, {
    title: "Map of coverage",
    note:
      "A dot is the true place, coloured by whether the stated radii hold it. Regions with many misses are ones in " +
      "which the radii promise too much.",
    bands: COVERED,
    bandOf: coveredOf,
  });
}

export const changes = (content) =>
  drawn(content, {
    title: "Map of changes",
    note: "A dot is the true place, coloured by the run whose answer is nearer to it.",
    bands: NEARER,
    bandOf: nearerOf,
  });

function drawn(content, { title, note, bands, bandOf, withLines = false }) {
  const images = imagesOf(content.map, bandOf);
  const canvas = document.createElement("canvas");
  const tip = document.createElement("div");
  Object.assign(canvas, { tabIndex: 0, role: "img", ariaLabel: `${title}: the world` });
  Object.assign(tip, { className: "tip", hidden: true });
  const { zoomBy, toggle } = interactive(canvas, tip, images, layersOf(content.world, images, bands, withLines), bands);
  const zoomButton = (text, name, factor) =>
    html`<button type="button" aria-label=${name} @click=${() => zoomBy(factor)}>${text}</button>`;
  return html`
    <h2>${title}</h2>
    <p class="note">${note} ${use(content)}</p>
    <div class="map">
      ${canvas}
      <div class="controls">
        ${zoomButton("+", "Zoom in", 1.7)}
        ${zoomButton("−", "Zoom out", 1 / 1.7)}
        ${zoomButton("↺", "Whole world", 0)}
      </div>
      ${tip}
    </div>
    <div class="legend" role="group" aria-label="Shown on the map">
      ${bands.map((band) => legendButton(band, images, toggle))}
    </div>`;
}

function use({ map, num_drawable }) {
  const drawn = `${whole(map.id.length)} of ${whole(num_drawable)} answered images are drawn`;
  const sampled = map.id.length < num_drawable ? `A random ${drawn}; the figures and charts are of all.` : "";
  const moves = "Drag to move; zoom with the buttons, a double click, or the wheel after a click.";
  return `${sampled} ${moves} Click the legend to hide and show.`;
}

function legendButton(band, images, toggle) {
  const press = ({ currentTarget }) => currentTarget.setAttribute("aria-pressed", toggle(band));
  return html`<button type="button" aria-pressed="true" @click=${press}>
    <i class=${band.color}></i><span>${band.label}</span>
    <small>${whole(images.filter((image) => image.band === band).length)}</small>
  </button>`;
}

// Draws the map whenever what it shows changes; returns what zooms it, and what hides and shows a band.
function interactive(canvas, tip, images, layers, bands) {
  const shown = new Set(bands);
  const isShown = ({ band }) => !band || shown.has(band);
  let ends = endsOf(images);
  let selected;
  const dotWidth = images.length > MANY ? 3 : 4.4;
  const draw = () => paint(canvas, [...layers.filter(isShown), ...selectionOf(selected)], dotWidth);
  const select = (image, x, y) => {
    const changed = image !== selected;
    selected = image;
    showTip(tip, image, x, y);
    if (changed) draw();
  };
  const point = ({ offsetX, offsetY }) => {
    const { k, x, y } = zoomTransform(canvas);
    const pixel = PLANE.width / canvas.clientWidth / k;
    const end = ends.find((offsetX - x) * pixel, (offsetY - y) * pixel, REACH * pixel);
    select(end?.image, offsetX, offsetY);
  };
  const toggle = (band) => {
    if (!shown.delete(band)) shown.add(band);
    ends = endsOf(images.filter(isShown));
    draw();
    return shown.has(band);
  };
  canvas.addEventListener("pointermove", (event) => event.buttons || point(event));
  canvas.addEventListener("click", point);
  canvas.addEventListener("pointerleave", () => select(undefined));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  const zoomBy = zoomable(canvas, () => {
    select(undefined);
    draw();
  });
  return { zoomBy, toggle };
}

// The lines' ends by place, to find the one under the pointer.
function endsOf(images) {
  const ends = images.flatMap((image) => image.ends.map(([x, y]) => ({ image, x, y })));
  return quadtree(ends, (end) => end.x, (end) => end.y);
}
