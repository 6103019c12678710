// Paints the layers on a canvas, in the colours of the page's style, as d3-zoom has the canvas transformed.
import { zoomTransform } from "d3";
import { PLANE } from "./map_layers.js";

// `dotWidth` is a dot's in pixels where the whole world is shown.
export function paint(canvas, layers, dotWidth) {
  const { k, x, y } = zoomTransform(canvas);
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  const color = (name) => style.getPropertyValue(`--${name}`);
  const ratio = fitPixels(canvas);
  const scale = (canvas.clientWidth / PLANE.width) * k;
  const dot = Math.min(10, dotWidth * k ** 0.25);
  context.setTransform(scale * ratio, 0, 0, scale * ratio, x * ratio, y * ratio);
  context.lineCap = "round";
  for (const { path, rings, gap, fill, stroke, width, alpha = 1, fromZoom = 0 } of layers) {
    if (k < fromZoom) continue;
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
