// Moves and zooms the map by d3-zoom and by keys, without catching people who scroll past it.
import { select, zoom, zoomIdentity, zoomTransform } from "d3";

const MOST = 400;
// By how many pixels a key moves the map, or by what factor it zooms: 0 is back to the whole world.
const MOVES = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
const FACTORS = { "+": 1.5, "=": 1.5, "-": 1 / 1.5, 0: 0 };

// Calls `changed` when the map has moved or its canvas has another size; returns a function that zooms by a factor.
export function zoomable(canvas, changed) {
  const behaviour = zoom().scaleExtent([1, MOST]).duration(0).filter((event) => isForMap(event, canvas));
  const map = select(canvas).call(behaviour);
  behaviour.on("zoom", ({ transform }) => {
    canvas.style.touchAction = transform.k > 1 ? "none" : "pan-y";
    changed();
  });
  map.on("keydown", (event) => {
    const [move, factor] = [MOVES[event.key], FACTORS[event.key]];
    if (event.ctrlKey || event.metaKey || (!move && factor === undefined)) return;
    event.preventDefault();
    if (move) behaviour.translateBy(map, ...move.map((pixels) => pixels / zoomTransform(canvas).k));
    else behaviour.scaleBy(map, factor);
  });
  new ResizeObserver(() => keepView(canvas, behaviour, map)).observe(canvas);
  return (factor) => behaviour.scaleBy(map, factor);
}

// The wheel scrolls the page unless the map was clicked or Ctrl is held, and so does one finger on the whole world.
function isForMap(event, canvas) {
  if (event.type === "wheel") return document.activeElement === canvas || event.ctrlKey || event.metaKey;
  if (event.touches) return event.touches.length > 1 || zoomTransform(canvas).k > 1;
  return !event.button && !event.ctrlKey;
}

// The same part of the world in a canvas of another size. A canvas that isn't laid out yet has no size.
function keepView(canvas, behaviour, map) {
  const { clientWidth: width, clientHeight: height } = canvas;
  if (!width) return;
  const ratio = width / behaviour.extent().call(canvas)[1][0];
  const { k, x, y } = zoomTransform(canvas);
  const all = [[0, 0], [width, height]];
  behaviour.extent(all).translateExtent(all).transform(map, zoomIdentity.translate(x * ratio, y * ratio).scale(k));
}
