// Tables, each a title, a note and rows whose first cell names them; they scroll sideways where they are wider than the
// page. cell_map.py writes its tables the same way.
import { html, nothing } from "lit-html";
import { DASH, km, kmNumber, percent, whole } from "./format.js";
import { THRESHOLDS } from "./thresholds.js";

export const table = ({ title, note, head, rows }) => html`<div>
  <h2>${title}</h2>
  <p class="note">${note}</p>
  <div class="scroll" tabindex="0" role="region" aria-label=${title}>
    <table>
      <thead><tr>${head.map((name) => html`<th scope="col">${name}</th>`)}</tr></thead>
      <tbody>
        ${rows.map(
          ([first, ...rest]) =>
            html`<tr><th scope="row">${first}</th>${rest.map((value) => html`<td>${value}</td>`)}</tr>`,
        )}
      </tbody>
    </table>
  </div>
</div>`;

export function tables(content) {
  if (!content.metrics) return nothing;
  const place = content.metrics.by_place;
  return [
    accuracy(content.metrics),
    place.coverage_by_fifth.length ? calibration(content.metrics) : nothing,
    Object.values(place.reliability).some(Boolean) ? reliability(place.reliability) : nothing,
    place.answered_curve.length ? answered(place.answered_curve) : nothing,
    parts(place.by_continent, "Continents"),
    place.confused_countries.length ? confused(place.confused_countries) : nothing,
  ];
}

const between = (bounds, of) => (bounds && bounds[0] !== null ? `${of(bounds[0])} – ${of(bounds[1])}` : DASH);

function accuracy(metrics) {
  const place = metrics.by_place;
  const centre = place.cell_centre;
  const row = (name, get, of) => [
    name,
    of(get(place)),
    between(get(place.intervals_95), of),
    of(get(metrics)),
    ...(centre ? [of(get(centre) ?? null)] : []),
  ];
  return table({
    title: "Accuracy",
    note:
      "By place each block or group of images has one vote; intervals are of 1,000 draws of whole places." +
      (centre ? " The centre of the most probable cell is the answer before refinement, by place." : ""),
    head: ["", "by place", "95 % interval", "by photo", ...(centre ? ["cell centre"] : [])],
    rows: [
      row("median error", (one) => one.median_error_km, km),
      row("mean error", (one) => one.mean_error_km, km),
      ...THRESHOLDS.map(({ km: distance, name }) =>
        row(`within ${whole(distance)} km (${name})`, (one) => one.accuracy_at_km[distance], (value) => percent(value, 1)),
      ),
      row("GeoGuessr points", (one) => one.geoguessr_score, whole),
      row("right country", (one) => one.country_accuracy, (value) => percent(value, 1)),
    ],
  });
}

function calibration(metrics) {
  const place = metrics.by_place;
  const rows = place.coverage_by_fifth.map((one, number) => [
    `fifth ${number + 1}`,
    whole(one.num_images),
    one.from_km === one.to_km ? km(one.from_km) : `${kmNumber(one.from_km)} – ${km(one.to_km)}`,
    percent(one.covered_50),
    between(one.covered_50_interval_95, percent),
    percent(one.covered_90),
    between(one.covered_90_interval_95, percent),
  ]);
  const all = place.radius_coverage;
  const ranges = place.intervals_95.radius_coverage;
  const every = ["all", whole(metrics.num_images), "", percent(all[50]), between(ranges[50], percent), percent(all[90])];
  return table({
    title: "Calibration",
    note:
      "How often the truth lies within the stated radius, by place: 50 % and 90 % would be exact. Fifths of the places " +
      "by the radius, from the most certain. Of images unlike those that the bundle knows no radius is stated.",
    head: ["places", "images", "90 % radius", "in 50 % radius", "95 % interval", "in 90 % radius", "95 % interval"],
    rows: [[...every, between(ranges[90], percent)], ...rows],
  });
}

function reliability(levels) {
  const known = Object.entries(levels).filter(([, one]) => one);
  return table({
    title: "Probabilities",
    note:
      "What is stated and what is right, by place; the calibration error is the mean distance of both in bins of what " +
      "is stated.",
    head: ["of the", "stated", "right", "calibration error", "95 % interval"],
    rows: known.map(([level, one]) => [
      level,
      percent(one.stated),
      percent(one.right),
      percent(one.ece),
      between(one.ece_interval_95, percent),
    ]),
  });
}

function answered(curve) {
  const shown = curve.filter((one) => [1, 0.9, 0.8, 0.7, 0.5, 0.3].some((share) => Math.abs(one.share - share) < 1e-6));
  return table({
    title: "Answering only the surest",
    note: "What is right where only the answers with the smallest radii are given, by place.",
    head: ["places answered", "within 25 km", "95 % interval", "within 200 km", "95 % interval"],
    rows: shown.map((one) => [
      percent(one.share),
      percent(one.within_25_km),
      between(one.within_25_km_interval_95, percent),
      percent(one.within_200_km),
      between(one.within_200_km_interval_95, percent),
    ]),
  });
}

function confused(pairs) {
  return table({
    title: "Countries taken for others",
    note: "By place: how many places of a country are answered with another, and which share of all of its places.",
    head: ["true", "answered", "places", "of the country"],
    rows: pairs.map((one) => [one.true, one.answered, one.num_places.toFixed(1), percent(one.share_of_country)]),
  });
}

function parts(figures, title) {
  return table({
    title,
    note: "By place.",
    head: ["", "places", "images", "median error", "within 25 km", "within 200 km", "in 90 % radius"],
    rows: Object.entries(figures).map(([name, one]) => [
      name,
      whole(one.num_places),
      whole(one.num_images),
      km(one.median_error_km),
      percent(one.within_25_km),
      percent(one.within_200_km),
      percent(one.radius_coverage_90),
    ]),
  });
}

export function problems(content) {
  if (!content.problems.length) return nothing;
  return table({
    title: "Problems",
    note: "Images without an answer, or with an uncertain one, by the code in the column problem.",
    head: ["code", "images", "for example"],
    rows: content.problems.map((one) => [one.code, whole(one.count), one.examples.join(", ")]),
  });
}
