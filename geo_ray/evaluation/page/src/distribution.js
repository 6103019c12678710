// How the errors, or without truth the stated radii, are distributed: a histogram and the cumulative curve.
import { dot, line, pointerX, rectY, ruleX, ruleY, text, tip } from "@observablehq/plot";
import { html } from "lit-html";
import { TIP, chart } from "./chart.js";
import { km, percent, whole } from "./format.js";
import { THRESHOLDS, quantityOf } from "./thresholds.js";

export function distribution(content) {
  const { metrics, distributions } = content;
  const keys = distributions.cell_centre ? { answer: "", "cell centre": "other" } : {};
  return html`
    <h2>${metrics ? "Errors" : "Stated radius"}</h2>
    <p class="note">${metrics ? ERRORS : RADII}</p>
    <div class="pair">${histogram(content, keys)}${curve(content, keys)}</div>`;
}

const ERRORS =
  "Great-circle distance from the answer to the truth. Images without an answer count as misses on the right, and are " +
  "left out on the left.";
const RADII =
  "The radius around each answer that holds the truth with a probability of 90 %, as the bundle's calibration has it.";

const ANSWER = { stroke: "var(--accent)", strokeWidth: 2.2, strokeLinejoin: "round" };
const CENTRE = { stroke: "var(--second)", strokeWidth: 1.8, strokeDasharray: "5 3", strokeLinejoin: "round" };

function kmAxis(content) {
  const { edges } = content.distributions;
  return {
    type: "log",
    domain: [edges[0], edges.at(-1)],
    ticks: [0.1, 1, 10, 100, 1000, 10000],
    tickFormat: (value) => (value < 1 ? String(value) : whole(value)),
    tickSize: 0,
    label: `${quantityOf(content)} in km (logarithmic)`,
    labelAnchor: "center",
    labelArrow: "none",
  };
}

const countAxis = { grid: true, tickSize: 0, labelArrow: "none" };

function histogram(content, keys) {
  const { edges, answer, cell_centre: centre } = content.distributions;
  const bars = answer.histogram.map((count, i) => ({ from: edges[i], to: edges[i + 1], count }));
  const steps = centre?.histogram.flatMap((count, i) => [[edges[i], count], [edges[i + 1], count]]);
  const top = Math.max(1, ...answer.histogram, ...(centre?.histogram ?? []));
  const draw = () => ({
    x: kmAxis(content),
    y: { ...countAxis, domain: [0, top], ticks: Math.min(5, top), tickFormat: whole, label: "images" },
    marks: [
      rectY(bars.filter((bar) => bar.count), {
        x1: "from",
        x2: "to",
        y: "count",
        inset: 0.6,
        rx: 1.5,
        fill: "var(--accent)",
        title: (bar) => `${km(bar.from)} to ${km(bar.to)}: ${whole(bar.count)} images`,
        tip: TIP,
      }),
      ruleY([0], { stroke: "var(--line)" }),
      steps && line(steps, CENTRE),
    ],
  });
  return chart({ title: "Distribution", label: `Histogram of the ${quantityOf(content)}`, keys, draw });
}

function curve(content, keys) {
  const { distributions, metrics } = content;
  const points = (part) => part.cumulative.map((share, i) => ({ km: distributions.km[i], share: 100 * share }));
  const answer = points(distributions.answer);
  const xy = { x: "km", y: "share" };
  const draw = (width) => ({
    x: kmAxis(content),
    y: { ...countAxis, domain: [0, 100], ticks: [0, 25, 50, 75, 100], label: "% of images" },
    marks: [
      distributions.cell_centre && line(points(distributions.cell_centre), { ...xy, ...CENTRE }),
      line(answer, { ...xy, ...ANSWER }),
      ...(metrics ? thresholdMarks(metrics, width) : []),
      tip(answer, pointerX({ ...xy, ...TIP, title: (one) => `${percent(one.share / 100)} below ${km(one.km)}` })),
    ],
  });
  const title = metrics ? "Share of images within a distance" : "Share of images with a smaller radius";
  return chart({ title, label: `Share of images below each ${quantityOf(content)}`, keys, draw });
}

// Where the curve meets the field's thresholds. On a phone, neighbours' texts stand at two heights.
function thresholdMarks(metrics, width) {
  const at = THRESHOLDS.map(({ km }) => ({ km, share: 100 * metrics.accuracy_at_km[km] }));
  const xy = { x: "km", y: "share" };
  const value = (filter, place) =>
    text(at, { ...xy, filter, text: (one) => percent(one.share / 100), fill: "var(--ink)", fontSize: 11, fontWeight: 600, ...place });
  const high = (one) => one.share > 85;
  const second = (one) => width < 420 && THRESHOLDS.findIndex(({ km }) => km === one.km) % 2;
  return [
    ruleX(THRESHOLDS, { x: "km", strokeDasharray: "2 3", strokeWidth: 0.8, strokeOpacity: 0.65 }),
    dot(at, { ...xy, r: 4.5, fill: "var(--accent)", stroke: "var(--card)", strokeWidth: 1.5 }),
    value((one) => !high(one), { textAnchor: "end", dx: -8, dy: -11 }),
    value((one) => high(one) && !second(one), { textAnchor: "start", dx: 5, dy: 15 }),
    value((one) => high(one) && second(one), { textAnchor: "start", dx: 5, dy: 29 }),
  ];
}
