"use strict";
// Every text of the content is untrusted (names of files): it goes into the page as textContent, never as markup.
const content = JSON.parse(document.getElementById("content").textContent);
const SVG = document.getElementById("histogram").namespaceURI;
const BANDS = [25, 200, 750, 2500, Infinity];
const metrics = content.metrics;
const quantity = metrics ? "error" : "90 % radius";

function add(parent, tag, attributes = {}, text = null) {
  const node = parent.namespaceURI === SVG ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  return parent.appendChild(node);
}
const at = (id) => document.getElementById(id);
const whole = (value) => Math.round(value).toLocaleString("en");
const percent = (share, digits = 1) => (share === null || share === undefined ? "–" : (100 * share).toFixed(digits) + " %");
function km(value) {
  if (value === null || value === undefined) return "–";
  return (value < 10 ? value.toFixed(value < 1 ? 2 : 1) : whole(value)) + " km";
}
function degrees([lat, lon], digits = 2) {
  return `${Math.abs(lat).toFixed(digits)}° ${lat < 0 ? "S" : "N"}, ${Math.abs(lon).toFixed(digits)}° ${lon < 0 ? "W" : "E"}`;
}
const band = (value) => (value === null ? BANDS.length - 1 : BANDS.findIndex((top) => value < top));

// --- Heading -------------------------------------------------------------------------------------------------------
function heading() {
  const bundle = content.bundle, unanswered = content.num_images - content.num_answered;
  at("title").textContent = `${whole(content.num_images)} images` + (bundle.ref ? `, located with ${bundle.ref}` : "");
  document.title = at("title").textContent + " · geo-ray report";
  at("lead").textContent = bundle.description ? `What the bundle is for: ${bundle.description}.` : "";
  const facts = [
    ["Answered", `${whole(content.num_answered)} of ${whole(content.num_images)}`],
    ["Problems", whole(unanswered)],
    ["Truth", content.matching || "none given: the report shows the answers and how certain they are"],
    ["Bundle", [bundle.kind, bundle.fingerprint].filter(Boolean).join(" · ") || "not recorded"],
    ["Folder", content.path],
  ];
  for (const [name, value] of facts) {
    const row = add(at("facts"), "div");
    add(row, "dt", {}, name);
    add(row, "dd", {}, value);
  }
  if (!content.finished) {
    add(at("warnings"), "p", { class: "warning" }, "This run has not finished (no _SUCCESS file): images are missing here.");
  }
}

function keyFigures() {
  const figures = metrics
    ? [
        [km(metrics.median_error_km), "median error"],
        [percent(metrics.accuracy_at_km["25"]), "within 25 km"],
        [percent(metrics.accuracy_at_km["200"]), "within 200 km"],
        [percent(metrics.country_accuracy), "right country"],
        [metrics.geoguessr_score === null ? "–" : whole(metrics.geoguessr_score), "GeoGuessr points"],
      ]
    : [
        [whole(content.num_answered), "images answered"],
        [km(median(content.map.radius_km_90)), "median 90 % radius"],
      ];
  if (content.images_per_second) figures.push([whole(content.images_per_second), "images per second"]);
  for (const [value, name] of figures) {
    const box = add(at("figures"), "div", { class: "figure" });
    add(box, "b", {}, value);
    add(box, "span", {}, name);
  }
}
function median(values) {
  const known = values.filter((value) => value !== null).sort((a, b) => a - b);
  return known.length ? (known[(known.length - 1) >> 1] + known[known.length >> 1]) / 2 : null;
}

// --- Map: Equal Earth (Savric, Patterson & Jenny 2018), eqs. 3 and 4 --------------------------------------------------
const A = [1.340264, -0.081106, 0.000893, 0.003796], ROOT = Math.sqrt(3);
function project(lat, lon) {
  const t = Math.asin((ROOT / 2) * Math.sin((lat * Math.PI) / 180)), t2 = t * t, t6 = t2 ** 3;
  const x = (2 * ROOT * ((lon * Math.PI) / 180) * Math.cos(t)) / (3 * (9 * A[3] * t6 * t2 + 7 * A[2] * t6 + 3 * A[1] * t2 + A[0]));
  return [x, -t * (A[3] * t6 * t2 + A[2] * t6 + A[1] * t2 + A[0])];
}
const HALF_WIDTH = project(0, 180)[0], HALF_HEIGHT = -project(90, 0)[1];

function pathOf(lines, closed) {
  const path = new Path2D();
  for (const line of lines) {
    for (let i = 0; i < line.length; i += 2) {
      const [x, y] = project(line[i], line[i + 1]);
      if (i) path.lineTo(x, y); else path.moveTo(x, y);
    }
    if (closed) path.closePath();
  }
  return path;
}
function meridian(lon) {
  return Array.from({ length: 61 }, (_, i) => [3 * i - 90, lon]).flat();
}
function globeOutline() {
  const back = Array.from({ length: 61 }, (_, i) => [90 - 3 * i, 180]).flat();
  return pathOf([[...meridian(-180), ...back]], true);
}
function graticule() {
  const lines = [];
  for (let lon = -150; lon <= 150; lon += 30) lines.push(meridian(lon));
  for (let lat = -60; lat <= 60; lat += 30) lines.push([lat, -180, lat, 180]);
  return pathOf(lines, false);
}
// A great circle, in steps of about 150 km, broken where it crosses longitude 180.
function arc(path, a, b) {
  const rad = Math.PI / 180, unit = ([lat, lon]) => {
    const c = Math.cos(lat * rad);
    return [c * Math.cos(lon * rad), c * Math.sin(lon * rad), Math.sin(lat * rad)];
  };
  const u = unit(a), v = unit(b), angle = Math.acos(Math.min(1, Math.max(-1, u[0] * v[0] + u[1] * v[1] + u[2] * v[2])));
  const steps = Math.min(96, Math.ceil((angle * 6371) / 150)) || 1;
  let before = null;
  for (let i = 0; i <= steps; i++) {
    let point = i === 0 ? a : b;
    if (i > 0 && i < steps) {
      const p = Math.sin((1 - i / steps) * angle), q = Math.sin((i / steps) * angle);
      const [x, y, z] = [0, 1, 2].map((n) => p * u[n] + q * v[n]);
      point = [Math.atan2(z, Math.hypot(x, y)) / rad, Math.atan2(y, x) / rad];
    }
    const [x, y] = project(point[0], point[1]);
    if (before === null || Math.abs(point[1] - before) > 180) path.moveTo(x, y); else path.lineTo(x, y);
    before = point[1];
  }
}

function worldMap() {
  const canvas = at("map"), context = canvas.getContext("2d"), tip = at("tip"), points = content.map;
  const land = pathOf(content.world.land, true), borders = pathOf(content.world.borders, false);
  const globe = globeOutline(), grid = graticule(), shown = BANDS.map(() => true);
  const answers = points.latlon.map(([lat, lon]) => project(lat, lon));
  const places = points.true_latlon ? points.true_latlon.map(([lat, lon]) => project(lat, lon)) : answers;
  const bands = points.km.map(band), lines = BANDS.map(() => new Path2D());
  if (points.true_latlon) points.latlon.forEach((answer, i) => arc(lines[bands[i]], points.true_latlon[i], answer));
  const view = { zoom: 1, x: 0, y: 0 };
  let width = 0, height = 0, selected = -1;

  const scale = () => (Math.min(width / (2.04 * HALF_WIDTH), height / (2.06 * HALF_HEIGHT)) || 1) * view.zoom;
  const toScreen = ([x, y]) => [(x - view.x) * scale() + width / 2, (y - view.y) * scale() + height / 2];
  function draw() {
    const ratio = window.devicePixelRatio || 1, style = getComputedStyle(document.documentElement), k = scale();
    const color = (name) => style.getPropertyValue("--" + name).trim();
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.setTransform(k * ratio, 0, 0, k * ratio, (width / 2 - view.x * k) * ratio, (height / 2 - view.y * k) * ratio);
    context.fillStyle = color("sea"); context.fill(globe);
    context.lineWidth = 0.8 / k; context.strokeStyle = color("grid"); context.stroke(grid);
    context.fillStyle = color("land"); context.fill(land, "evenodd");
    context.strokeStyle = color("border"); context.stroke(borders);
    context.strokeStyle = color("line"); context.stroke(globe);
    BANDS.forEach((_, b) => {
      if (!shown[b]) return;
      context.strokeStyle = color("band-" + b); context.lineWidth = 1.1 / k; context.globalAlpha = b < 2 ? 0.85 : 0.5;
      context.stroke(lines[b]);
    });
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    const size = Math.min(5, (answers.length > 3000 ? 1.5 : 2.2) * Math.sqrt(Math.sqrt(view.zoom)));
    BANDS.forEach((_, b) => {
      if (!shown[b]) return;
      context.fillStyle = context.strokeStyle = color("band-" + b); context.lineWidth = 1.2;
      places.forEach((place, i) => { if (bands[i] === b) dot(toScreen(place), size); });
      if (points.true_latlon && view.zoom > 6) {
        answers.forEach((answer, i) => { if (bands[i] === b) ring(toScreen(answer), size + 1.2); });
      }
    });
    context.globalAlpha = 1;
    if (selected >= 0) {
      context.strokeStyle = color("ink"); context.lineWidth = 1.6;
      ring(toScreen(places[selected]), size + 3); ring(toScreen(answers[selected]), size + 3);
    }
  }
  function dot([x, y], size) {
    if (x < -9 || y < -9 || x > width + 9 || y > height + 9) return;
    context.globalAlpha = 0.85; context.beginPath(); context.arc(x, y, size, 0, 7); context.fill();
  }
  function ring([x, y], size) {
    if (x < -9 || y < -9 || x > width + 9 || y > height + 9) return;
    context.beginPath(); context.arc(x, y, size, 0, 7); context.stroke();
  }
  function resize() {
    const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
    width = box.width; height = box.height;
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
    draw();
  }
  function clamp() {
    const limit = (half, room) => Math.max(0, half - room / (2 * scale()) + 0.05);
    const [x, y] = [limit(HALF_WIDTH, width), limit(HALF_HEIGHT, height)];
    view.x = Math.min(x, Math.max(-x, view.x)); view.y = Math.min(y, Math.max(-y, view.y));
  }
  function zoomBy(factor, x = width / 2, y = height / 2) {
    const before = scale();
    view.zoom = Math.min(400, Math.max(1, view.zoom * factor));
    const after = scale();
    view.x += (x - width / 2) * (1 / before - 1 / after); view.y += (y - height / 2) * (1 / before - 1 / after);
    canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
    clamp(); hover(-1); draw();
  }
  function nearest(x, y) {
    let best = -1, least = 12 * 12;
    [places, answers].forEach((ends) => ends.forEach((end, i) => {
      if (!shown[bands[i]]) return;
      const [px, py] = toScreen(end), distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance < least) { least = distance; best = i; }
    }));
    return best;
  }
  function hover(i, x = 0, y = 0) {
    const changed = i !== selected;
    selected = i; tip.hidden = i < 0;
    if (i < 0) return changed;
    tip.replaceChildren();
    add(tip, "b", {}, points.id[i]);
    add(tip, "span", {}, `Answer: ${points.labels[points.label[i]]} (${degrees(points.latlon[i])})`);
    if (points.true_latlon) {
      add(tip, "span", {}, `Truth: ${points.true_labels[points.true_label[i]]} (${degrees(points.true_latlon[i])})`);
      add(tip, "span", {}, `Error ${km(points.km[i])}; 90 % radius ${km(points.radius_km_90[i])}`);
    } else {
      add(tip, "span", {}, `90 % radius ${km(points.radius_km_90[i])}`);
    }
    tip.style.left = Math.min(x + 14, Math.max(0, width - tip.offsetWidth - 6)) + "px";
    tip.style.top = (y + 18 + tip.offsetHeight > height ? Math.max(4, y - tip.offsetHeight - 12) : y + 18) + "px";
    return changed;
  }

  const fingers = new Map();
  canvas.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, [event.offsetX, event.offsetY]);
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId), now = [event.offsetX, event.offsetY];
    if (!before) {
      if (hover(nearest(...now), ...now)) draw();
      return;
    }
    const other = [...fingers].find(([id]) => id !== event.pointerId);
    fingers.set(event.pointerId, now);
    if (other) {
      const gap = ([x, y]) => Math.hypot(x - other[1][0], y - other[1][1]);
      zoomBy(gap(now) / (gap(before) || 1), (now[0] + other[1][0]) / 2, (now[1] + other[1][1]) / 2);
    } else {
      view.x -= (now[0] - before[0]) / scale(); view.y -= (now[1] - before[1]) / scale();
      clamp(); hover(-1); draw();
    }
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => {
      fingers.delete(event.pointerId);
      if (hover(nearest(event.offsetX, event.offsetY), event.offsetX, event.offsetY)) draw();
    });
  }
  canvas.addEventListener("pointerleave", () => { if (hover(-1)) draw(); });
  canvas.addEventListener("dblclick", (event) => zoomBy(2, event.offsetX, event.offsetY));
  canvas.addEventListener("wheel", (event) => {
    // Without focus or Ctrl the wheel scrolls the page: a map must not catch people who read on.
    if (document.activeElement !== canvas && !event.ctrlKey && !event.metaKey) return;
    event.preventDefault();
    zoomBy(Math.exp(-event.deltaY / 400), event.offsetX, event.offsetY);
  }, { passive: false });
  canvas.addEventListener("keydown", (event) => {
    const step = 60 / scale();
    const moves = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, -step], ArrowDown: [0, step] };
    if (event.key in moves) { view.x += moves[event.key][0]; view.y += moves[event.key][1]; clamp(); draw(); }
    else if (event.key === "+" || event.key === "=") zoomBy(1.5);
    else if (event.key === "-") zoomBy(1 / 1.5);
    else if (event.key === "0") zoomBy(1e-9);
    else return;
    event.preventDefault();
  });
  at("zoom-in").addEventListener("click", () => zoomBy(1.7));
  at("zoom-out").addEventListener("click", () => zoomBy(1 / 1.7));
  at("zoom-reset").addEventListener("click", () => zoomBy(1e-9));
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  new ResizeObserver(resize).observe(canvas);
  legend(bands, shown, draw);
}

function legend(bands, shown, draw) {
  BANDS.forEach((top, b) => {
    const count = bands.filter((one) => one === b).length;
    const label = b === 0 ? `under ${top} km` : top === Infinity ? `over ${whole(BANDS[b - 1])} km` : `${whole(BANDS[b - 1])} to ${whole(top)} km`;
    const button = add(at("legend"), "button", { type: "button", "aria-pressed": "true" });
    add(button, "i", { class: "band-" + b });
    add(button, "span", {}, label);
    add(button, "small", {}, whole(count));
    button.addEventListener("click", () => {
      shown[b] = !shown[b];
      button.setAttribute("aria-pressed", String(shown[b]));
      draw();
    });
  });
}

function mapNote() {
  const drawn = content.map.id.length;
  const sampled = drawn < content.num_drawable
    ? ` A random ${whole(drawn)} of ${whole(content.num_drawable)} answered images are drawn; the figures and charts are of all.` : "";
  at("map-note").textContent = (metrics
    ? "A dot is the true place, coloured by the error; a line leads to the answer."
    : "A dot is an answer, coloured by the radius that holds the truth with a probability of 90 %.")
    + sampled + " Drag to move; zoom with the buttons, a double click, or the wheel after a click. Click the legend to hide and show.";
}

// --- Charts ----------------------------------------------------------------------------------------------------------
const BOX = { width: 560, height: 300, left: 46, right: 12, top: 26, bottom: 40 };
const TICKS = [0.1, 1, 10, 100, 1000, 10000], THRESHOLDS = [1, 25, 200, 750, 2500];
const edges = content.distributions.edges, LOW = Math.log10(edges[0]), HIGH = Math.log10(edges[edges.length - 1]);
const xOf = (value) => BOX.left + ((Math.log10(value) - LOW) / (HIGH - LOW)) * (BOX.width - BOX.left - BOX.right);
const yOf = (share) => BOX.height - BOX.bottom - share * (BOX.height - BOX.top - BOX.bottom);

function frame(svg, label, yTicks, yText) {
  svg.setAttribute("viewBox", `0 0 ${BOX.width} ${BOX.height}`);
  svg.setAttribute("aria-label", label);
  for (const [share, text] of yTicks) {
    add(svg, "line", { class: "tick", x1: BOX.left, x2: BOX.width - BOX.right, y1: yOf(share), y2: yOf(share) });
    add(svg, "text", { x: BOX.left - 7, y: yOf(share) + 4, "text-anchor": "end" }, text);
  }
  for (const value of TICKS) {
    add(svg, "text", { x: xOf(value), y: BOX.height - BOX.bottom + 17, "text-anchor": "middle" }, value < 1 ? String(value) : whole(value));
  }
  add(svg, "line", { class: "axis", x1: BOX.left, x2: BOX.width - BOX.right, y1: yOf(0), y2: yOf(0) });
  add(svg, "text", { x: (BOX.left + BOX.width) / 2, y: BOX.height - 5, "text-anchor": "middle" }, `${quantity} in km (logarithmic)`);
  add(svg, "text", { x: 0, y: 11 }, yText);
}

function histogram() {
  const svg = at("histogram"), { answer, cell_centre: centre } = content.distributions;
  const top = Math.max(1, ...answer.histogram, ...(centre ? centre.histogram : []));
  const step = [1, 2, 5].flatMap((n) => [0, 1, 2, 3, 4, 5, 6, 7].map((p) => n * 10 ** p)).sort((a, b) => a - b).find((n) => top / n <= 5) || top;
  const ticks = [];
  for (let value = 0; value <= top; value += step) ticks.push([value / top, whole(value)]);
  frame(svg, `Histogram of the ${quantity}`, ticks, "images");
  answer.histogram.forEach((count, i) => {
    if (!count) return;
    const bar = add(svg, "rect", {
      class: "bar", x: xOf(edges[i]) + 0.6, width: xOf(edges[i + 1]) - xOf(edges[i]) - 1.2,
      y: yOf(count / top), height: yOf(0) - yOf(count / top), rx: 1.5,
    });
    add(bar, "title", {}, `${km(edges[i])} to ${km(edges[i + 1])}: ${whole(count)} images`);
  });
  if (!centre) return;
  const corners = centre.histogram.flatMap((count, i) => [[edges[i], count], [edges[i + 1], count]]);
  add(svg, "path", { class: "second", d: "M" + corners.map(([x, y]) => `${xOf(x).toFixed(1)} ${yOf(y / top).toFixed(1)}`).join("L") });
}

function curve() {
  const svg = at("curve"), { km: at_km, answer, cell_centre: centre } = content.distributions;
  frame(svg, `Share of images below each ${quantity}`, [0, 0.25, 0.5, 0.75, 1].map((share) => [share, String(100 * share)]), "% of images");
  const line = (shares) => "M" + at_km.map((x, i) => `${xOf(x).toFixed(1)} ${yOf(shares[i]).toFixed(1)}`).join("L");
  for (const value of metrics ? THRESHOLDS : []) {
    add(svg, "line", { class: "mark", x1: xOf(value), x2: xOf(value), y1: yOf(0), y2: yOf(1) });
  }
  if (centre) add(svg, "path", { class: "second", d: line(centre.cumulative) });
  add(svg, "path", { class: "line", d: line(answer.cumulative) });
  for (const value of metrics ? THRESHOLDS : []) {
    const share = metrics.accuracy_at_km[String(value)];
    if (share === null) continue;
    const mark = add(svg, "circle", { class: "dot", cx: xOf(value), cy: yOf(share), r: 4.5 });
    add(mark, "title", {}, `${percent(share, 2)} within ${whole(value)} km`);
    const high = share > 0.85;
    add(svg, "text", { class: "value", x: xOf(value) + (high ? 5 : -8), y: yOf(share) + (high ? 19 : -7), "text-anchor": high ? "start" : "end" }, percent(share));
  }
}

function distribution() {
  const has = Boolean(content.distributions.cell_centre), title = metrics ? "Errors" : "Stated radius";
  at("distribution-title").textContent = title;
  at("distribution-note").textContent = metrics
    ? "Great-circle distance from the answer to the truth. Images without an answer count as misses on the right, and are left out on the left."
    : "The radius around each answer that holds the truth with a probability of 90 %, as the bundle's calibration has it.";
  at("histogram-title").textContent = "Distribution";
  at("curve-title").textContent = metrics ? "Share of images within a distance" : "Share of images with a smaller radius";
  for (const id of has ? ["histogram-title", "curve-title"] : []) {
    for (const [name, style] of [["answer", ""], ["cell centre", "other"]]) {
      const key = add(at(id), "span", { class: "key" });
      add(key, "i", { class: style });
      add(key, "span", {}, name);
    }
  }
  histogram();
  curve();
}

// --- Tables ----------------------------------------------------------------------------------------------------------
function table(parent, title, note, head, rows) {
  const part = add(parent, "div");
  add(part, "h2", {}, title);
  add(part, "p", { class: "note" }, note);
  const grid = add(add(part, "div", { class: "scroll" }), "table"), line = add(add(grid, "thead"), "tr");
  for (const name of head) add(line, "th", { scope: "col" }, name);
  const body = add(grid, "tbody");
  for (const [first, ...rest] of rows) {
    const row = add(body, "tr");
    add(row, "th", { scope: "row" }, first);
    for (const value of rest) add(row, "td", {}, value);
  }
  return grid;
}

function accuracyTable() {
  const centre = metrics.cell_centre, both = (value) => (centre ? [value(metrics), value(centre)] : [value(metrics)]);
  const points = (one) => (one.geoguessr_score === null ? "–" : whole(one.geoguessr_score));
  const names = { 1: "street", 25: "city", 200: "region", 750: "country", 2500: "continent" };
  table(at("tables"), "Accuracy", centre ? "The answer, beside the centre of the most probable cell before refinement." : "", ["", "answer", ...(centre ? ["cell centre"] : [])], [
    ["median error", ...both((one) => km(one.median_error_km))],
    ["mean error", ...both((one) => km(one.mean_error_km))],
    ...THRESHOLDS.map((value) => [`within ${whole(value)} km (${names[value]})`, ...both((one) => percent(one.accuracy_at_km[value], 2))]),
    ["GeoGuessr points", ...both(points)],
    ["right country", percent(metrics.country_accuracy, 2), ...(centre ? ["–"] : [])],
  ]);
}

function calibrationTable() {
  if (!content.calibration.length) return;
  const range = (one) => (one.from_km === one.to_km ? km(one.from_km) : `${km(one.from_km).replace(" km", "")} – ${km(one.to_km)}`);
  table(at("tables"), "Calibration", "How often the truth lies within the stated radius: 50 % and 90 % would be exact. Groups are of equally many answers, from the most certain.", ["answers", "images", "90 % radius", "in 50 % radius", "in 90 % radius"],
    content.calibration.map((one) => [one.name, whole(one.num_images), range(one), percent(one.covered_50), percent(one.covered_90)]));
}

function problemTable() {
  if (!content.problems.length) return;
  const grid = table(at("problems"), "Problems", "Images without an answer, by the code in the column problem.", ["code", "images", "for example"],
    content.problems.map((one) => [one.code, whole(one.count), one.examples.join(", ")]));
  for (const cell of grid.querySelectorAll("td:last-child")) cell.className = "wrap";
}

// --- Images ----------------------------------------------------------------------------------------------------------
function card(parent, one) {
  const box = add(parent, "article", { class: "card" });
  if (one.picture) add(box, "img", { src: one.picture, alt: "" });
  else add(box, "div", { class: "empty" }, "the image can't be read here");
  const side = add(box, "div");
  add(side, "h3", {}, one.truth ? km(one.answer.error_km) + " off" : km(one.radius_km_90) + " radius");
  const facts = add(side, "dl");
  for (const [name, value, detail] of [
    ...(one.truth ? [["Truth", one.truth.label, degrees(one.truth.latlon)]] : []),
    ["Answer", one.answer.label, degrees(one.answer.latlon)],
    ["Radius", `${km(one.radius_km_90)} (90 %)`, `${km(one.radius_km_50)} (50 %)`],
  ]) {
    add(facts, "dt", {}, name);
    add(add(facts, "dd", {}, value + " "), "small", {}, detail);
  }
  add(box, "p", { class: "name" }, one.id + (one.candidates.length ? " · candidates:" : ""));
  const list = add(box, "ol");
  for (const candidate of one.candidates) {
    const row = add(list, "li");
    // SVG attributes, since the page's policy allows no style attributes.
    const bar = row.appendChild(document.createElementNS(SVG, "svg"));
    add(bar, "rect", { x: 0, y: 0, height: "100%", rx: 3, width: (100 * Math.min(1, candidate.probability)).toFixed(1) + "%" });
    add(bar, "text", { x: 4, y: 13.5 }, candidate.probability < 0.0005 ? "< 0.1 %" : percent(candidate.probability));
    add(row, "span", { title: candidate.label }, candidate.label);
    add(row, "small", {}, candidate.error_km === null ? degrees(candidate.latlon) : km(candidate.error_km) + " off");
  }
}

function gallery(id, title, note) {
  if (!content[id].length) return;
  add(at(id), "h2", {}, title);
  add(at(id), "p", { class: "note" }, note);
  const grid = add(at(id), "div", { class: "cards" });
  for (const one of content[id]) card(grid, one);
}

function footer() {
  const notes = [
    `Map: ${content.world.source}; ${content.world.licence}. Names of places: GeoNames (CC BY 4.0), the nearest place of more than 1,000 people.`,
    "An answer is an estimate: read it with its radius, and don't use it to find people who don't want to be found.",
  ];
  if (metrics) notes.unshift("Shares count errors strictly below the threshold; an image without an answer is a miss and has 0 points, and is left out of median, mean and calibration.");
  if (content.num_places_as_country) notes.unshift(`The true country of ${whole(content.num_places_as_country)} images is that of the nearest place.`);
  for (const note of notes) add(at("footer"), "p", {}, note);
}

heading();
keyFigures();
mapNote();
worldMap();
distribution();
if (metrics) { accuracyTable(); calibrationTable(); }
gallery("best", metrics ? "The best" : "The most certain", metrics ? "The images with the smallest errors." : "The images with the smallest 90 % radius.");
gallery("worst", metrics ? "The worst" : "The least certain", metrics ? "The images with the largest errors, and what else the model considered." : "The images with the largest 90 % radius.");
problemTable();
footer();
