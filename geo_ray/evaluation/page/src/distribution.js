// How the errors, or without truth the stated radii, are distributed: a histogram and the cumulative curve.
import { dot, line, pointerX, rectY, ruleX, ruleY, text, tip } from "@observablehq/plot";
import { html } from "lit-html";
import { TIP, chart } from "./chart.js";
import { km, percent, whole } from "./format.js";
import { THRESHOLDS, quantityOf } from "./thresholds.js";

export function distribution(content) {
  const { metrics, distributions } = content;
  const [one, other] = distributions.names ?? ["answer", "cell centre"];
  const keys = distributions.cell_centre ? { [one]: "", [other]: "other" } : {};
  return html`
    <h2>${metrics ? "Errors" : "Stated radius"}</h2>
    <p class="note">${metrics ? ERRORS : RADII}</p>
    <div class="pair">${histogram(content, keys)}${curve(content, keys)}</div>`;
}

const ERRORS =
  "Great-circle distance from the answer to the truth. Images without an answer count as misses on the right, and " +
  "are left out on the left.";
const RADII =
  "The radius around each answer that holds the truth with a probability of 90 %, as the bundle's calibration has it.";

const ANSWER = { stroke: "var(--accent)", strokeWidth: 2.2 };
const CENTRE = { stroke: "var(--second)", strokeWidth: 1.8, strokeDasharray: "5 3" };

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

const COUNTS = { grid: true, tickSize: 0, labelArrow: "none" };
const XY = { x: "km", y: "share" };
const ABOVE = { textAnchor: "end", dx: -8, dy: -11 };
const HIGHER = { ...ABOVE, dy: -25 };
const BELOW = { textAnchor: "start", dx: 5, dy: 15 };
const LOWER = { ...BELOW, dy: 29 };

function histogram(content, keys) {
  const { edges, answer, cell_centre: centre } = content.distributions;
  const bins = answer.histogram.map((count, i) => ({ from: edges[i], to: edges[i + 1], count }));
  const steps = edges.map((km, i) => ({ km, count: centre?.histogram[Math.min(i, bins.length - 1)] }));
  const top = Math.max(1, ...answer.histogram, ...(centre?.histogram ?? []));
  const bars = { x1: "from", x2: "to", y: "count", inset: 0.6, rx: 1.5, fill: "var(--accent)", tip: TIP };
  const title = ({ from, to, count }) => `${km(from)} to ${km(to)}: ${whole(count)} images`;
  const draw = () => ({
    x: kmAxis(content),
    y: { ...COUNTS, domain: [0, top], ticks: Math.min(5, top), tickFormat: whole, label: "images" },
    marks: [
      rectY(bins, { ...bars, title, filter: ({ count }) => count }),
      ruleY([0], { stroke: "var(--line)" }),
      centre && line(steps, { x: "km", y: "count", curve: "step-after", ...CENTRE }),
    ],
  });
  return chart({ title: "Distribution", label: `Histogram of the ${quantityOf(content)}`, keys, draw });
}

function curve(content, keys) {
  const { metrics, distributions } = content;
  const points = (part) => part.cumulative.map((share, i) => ({ km: distributions.km[i], share: 100 * share }));
  const answer = points(distributions.answer);
  const title = ({ km: distance, share }) => `${percent(share / 100)} below ${km(distance)}`;
  const draw = (width) => ({
    x: kmAxis(content),
    y: { ...COUNTS, domain: [0, 100], ticks: [0, 25, 50, 75, 100], label: "% of images" },
    marks: [
      distributions.cell_centre && line(points(distributions.cell_centre), { ...XY, ...CENTRE }),
      line(answer, { ...XY, ...ANSWER }),
      ...(metrics ? thresholdMarks(metrics.accuracy_at_km, width) : []),
      tip(answer, pointerX({ ...XY, ...TIP, title })),
    ],
  });
  const heading = metrics ? "Share of images within a distance" : "Share of images with a smaller radius";
  return chart({ title: heading, label: `Share of images below each ${quantityOf(content)}`, keys, draw });
}

// Where the curve meets the field's thresholds. Texts are above the curve where it is low, else below; on a phone,
// every second one is farther from it, so that neighbours don't meet.
function thresholdMarks(accuracy, width) {
  const at = THRESHOLDS.map(({ km }) => ({ km, share: 100 * accuracy[km] }));
  const isFarther = (i) => width < 420 && i % 2 === 1;
  const placeOf = ({ share }, i) => (share < 85 ? [ABOVE, HIGHER] : [BELOW, LOWER])[Number(isFarther(i))];
  const style = { ...XY, text: ({ share }) => percent(share / 100), fill: "var(--ink)", fontSize: 11, fontWeight: 600 };
  return [
    ruleX(THRESHOLDS, { x: "km", strokeDasharray: "2 3", strokeWidth: 0.8, strokeOpacity: 0.65 }),
    dot(at, { ...XY, r: 4.5, fill: "var(--accent)", stroke: "var(--card)", strokeWidth: 1.5 }),
    ...[ABOVE, HIGHER, BELOW, LOWER].map((place) =>
      text(at, { ...style, ...place, filter: (one, i) => placeOf(one, i) === place }),
    ),
  ];
}
