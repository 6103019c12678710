// Whether what is stated holds: probabilities against what is right, and accuracy where only the surest are answered.
import { areaY, dot, line, tip, pointer, pointerX } from "@observablehq/plot";
import { html, nothing } from "lit-html";
import { TIP, chart } from "./chart.js";
import { percent } from "./format.js";

const COLORS = { cell: "var(--accent)", region: "var(--second)", country: "var(--third)" };
const CLASSES = { cell: "", region: "other", country: "third" };

export function certainty(content) {
  const place = content.metrics?.by_place;
  const levels = Object.entries(place?.reliability ?? {}).filter(([, one]) => one);
  if (!levels.length && !place?.answered_curve.length) return nothing;
  return html`
    <h2>Certainty</h2>
    <p class="note">
      By place. First what is stated against what is right: on the diagonal both are the same, and larger dots are of
      more places. Then what is right where only the answers with the smallest radii are given, with the interval that
      holds 95 % of draws of places.
    </p>
    <div class="pair">
      ${levels.length ? diagram(levels) : nothing}
      ${place.answered_curve.length ? surest(place.answered_curve) : nothing}
    </div>`;
}

const SHARES = { grid: true, tickSize: 0, labelArrow: "none", domain: [0, 100], ticks: [0, 25, 50, 75, 100] };

function diagram(levels) {
  const points = levels.flatMap(([level, one]) =>
    one.bins.map((bin) => ({ level, stated: 100 * bin.stated, right: 100 * bin.right, share: bin.share })),
  );
  const place = { x: "stated", y: "right" };
  const title = ({ level, stated, right, share }) =>
    `${level}: ${percent(stated / 100)} stated, ${percent(right / 100)} right, of ${percent(share)} of the places`;
  const draw = () => ({
    x: { ...SHARES, label: "% stated", labelAnchor: "center" },
    y: { ...SHARES, label: "% right" },
    r: { domain: [0, 1], range: [2, 14] },
    marks: [
      line([0, 100].map((at) => ({ stated: at, right: at })), { ...place, stroke: "var(--line)" }),
      dot(points, { ...place, r: "share", fill: ({ level }) => COLORS[level], fillOpacity: 0.7 }),
      tip(points, pointer({ ...place, ...TIP, title })),
    ],
  });
  const keys = Object.fromEntries(levels.map(([level]) => [level, CLASSES[level]]));
  return chart({ title: "Probabilities", label: "Probabilities that are stated against what is right", keys, draw });
}

function surest(curve) {
  const points = curve.map((one) => ({
    answered: 100 * one.share,
    near: 100 * one.within_25_km,
    low: 100 * one.within_25_km_interval_95[0],
    high: 100 * one.within_25_km_interval_95[1],
    known: one.within_25_km_interval_95[0] !== null,
  }));
  const title = ({ answered, near, low, high, known }) =>
    `${answered.toFixed(0)} % of places answered: ${percent(near / 100)} within 25 km` +
    (known ? ` (${percent(low / 100)} – ${percent(high / 100)})` : "");
  const least = Math.min(...points.map(({ near, low, known }) => (known ? low : near)));
  const draw = () => ({
    x: { ...SHARES, label: "% of places answered, the surest", labelAnchor: "center" },
    y: { grid: true, tickSize: 0, labelArrow: "none", domain: [Math.max(0, 10 * Math.floor(least / 10)), 100], label: "% within 25 km" },
    marks: [
      areaY(points.filter(({ known }) => known), { x: "answered", y1: "low", y2: "high", fill: "var(--accent)", fillOpacity: 0.18 }),
      line(points, { x: "answered", y: "near", stroke: "var(--accent)", strokeWidth: 2.2 }),
      tip(points, pointerX({ x: "answered", y: "near", ...TIP, title })),
    ],
  });
  return chart({ title: "Answering only the surest", label: "Accuracy by the share of places answered", draw });
}
