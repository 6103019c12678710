// Moves and zooms the map by d3-zoom and by keys, without catching people who scroll past it.
import { select, zoom, zoomIdentity, zoomTransform } from "d3";
import { PLANE } from "./map_layers.js";

const MOST = 400;
const STEP = 60; // pixels that an arrow key moves the map

// Calls `changed` after each move and each change of the canvas' size; returns what the map's buttons and tip need.
export function zoomable(canvas, changed) {
  const transform = () => zoomTransform(canvas);
  const behaviour = zoom()
    .scaleExtent([1, MOST])
    .duration(0)
    .filter((event) => isForMap(event, canvas))
    .on("zoom", () => {
      canvas.style.touchAction = transform().k > 1 ? "none" : "pan-y";
      changed();
    });
  const selection = select(canvas).call(behaviour);
  const by = (factor) => behaviour.scaleBy(selection, factor);
  const reset = () => behaviour.transform(selection, zoomIdentity);
  const move = (x, y) => behaviour.translateBy(selection, (x * STEP) / transform().k, (y * STEP) / transform().k);
  const inPlane = (x, y) => {
    const unit = canvas.clientWidth / PLANE.width;
    return [...transform().invert([x, y]).map((value) => value / unit), 1 / unit / transform().k];
  };
  canvas.addEventListener("keydown", (event) => pressed(event, { by, reset, move }));
  new ResizeObserver(() => keepView(canvas, behaviour, selection)).observe(canvas);
  return { transform, by, reset, inPlane };
}

// The wheel scrolls the page unless the map was clicked or Ctrl is held, and so does one finger on the whole world.
function isForMap(event, canvas) {
  if (event.type === "wheel") return document.activeElement === canvas || event.ctrlKey || event.metaKey;
  if (event.touches) return event.touches.length > 1 || zoomTransform(canvas).k > 1;
  return !event.button && !event.ctrlKey;
}

function pressed(event, { by, reset, move }) {
  const keys = {
    ArrowLeft: () => move(1, 0),
    ArrowRight: () => move(-1, 0),
    ArrowUp: () => move(0, 1),
    ArrowDown: () => move(0, -1),
    "+": () => by(1.5),
    "=": () => by(1.5),
    "-": () => by(1 / 1.5),
    0: reset,
  };
  if (!keys[event.key] || event.ctrlKey || event.metaKey) return;
  keys[event.key]();
  event.preventDefault();
}

// The same part of the world in a canvas of another size. A canvas that isn't laid out yet has no size.
function keepView(canvas, behaviour, selection) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  const ratio = width / behaviour.extent().call(canvas)[1][0];
  const { k, x, y } = zoomTransform(canvas);
  behaviour.extent([[0, 0], [width, height]]).translateExtent([[0, 0], [width, height]]);
  behaviour.transform(selection, zoomIdentity.translate(x * ratio, y * ratio).scale(k));
}
