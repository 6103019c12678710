// Paints layers of the map's plane on a canvas, in the colours of the page's style.
import { PLANE } from "./map_layers.js";

// `transform` is d3-zoom's, in pixels; `dotWidth` is a dot's where the whole world is shown.
export function paint(canvas, layers, transform, dotWidth) {
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const color = (name) => style.getPropertyValue(`--${name}`);
  const ratio = fitPixels(canvas);
  const scale = (canvas.clientWidth / PLANE.width) * transform.k;
  const dot = Math.min(10, dotWidth * transform.k ** 0.25);
  context.setTransform(scale * ratio, 0, 0, scale * ratio, transform.x * ratio, transform.y * ratio);
  context.lineCap = "round";
  for (const { path, rings, gap = 1.2, fill, stroke, width, alpha = 1, fromZoom = 0 } of layers) {
    if (transform.k < fromZoom) continue;
    const outline = path ?? circles(rings, (dot / 2 + gap) / scale);
    context.globalAlpha = alpha;
    context.lineWidth = (width === "dot" ? dot : width) / scale;
    context.fillStyle = color(fill);
    context.strokeStyle = color(stroke);
    if (fill) context.fill(outline);
    if (stroke) context.stroke(outline);
  }
}

// Gives the canvas a pixel for each of the screen's, which also clears it; returns how many there are to one of CSS.
function fitPixels(canvas) {
  const ratio = window.devicePixelRatio;
  canvas.width = Math.round(canvas.clientWidth * ratio);
  canvas.height = Math.round(canvas.clientHeight * ratio);
  return ratio;
}

function circles(centres, radius) {
  const path = new Path2D();
  for (const [x, y] of centres) {
    path.moveTo(x + radius, y);
    path.arc(x, y, radius, 0, 2 * Math.PI);
  }
  return path;
}
