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
  return [accuracy(content.metrics), content.calibration.length ? calibration(content.calibration) : nothing];
}

function accuracy(metrics) {
  const centre = metrics.cell_centre;
  const row = (name, value) => [name, value(metrics), ...(centre ? [value(centre)] : [])];
  return table({
    title: "Accuracy",
    note: centre ? "The answer, beside the centre of the most probable cell before refinement." : nothing,
    head: ["", "answer", ...(centre ? ["cell centre"] : [])],
    rows: [
      row("median error", (one) => km(one.median_error_km)),
      row("mean error", (one) => km(one.mean_error_km)),
      ...THRESHOLDS.map(({ km, name }) =>
        row(`within ${whole(km)} km (${name})`, (one) => percent(one.accuracy_at_km[km], 2)),
      ),
      row("GeoGuessr points", (one) => whole(one.geoguessr_score)),
      row("right country", (one) => (one === centre ? DASH : percent(one.country_accuracy, 2))),
    ],
  });
}

function calibration(groups) {
  return table({
    title: "Calibration",
    note:
      "How often the truth lies within the stated radius: 50 % and 90 % would be exact. " +
      "Groups are of equally many answers, from the most certain.",
    head: ["answers", "images", "90 % radius", "in 50 % radius", "in 90 % radius"],
    rows: groups.map((one) => [
      one.name,
      whole(one.num_images),
      one.from_km === one.to_km ? km(one.from_km) : `${kmNumber(one.from_km)} – ${km(one.to_km)}`,
      percent(one.covered_50),
      percent(one.covered_90),
    ]),
  });
}

export function problems(content) {
  if (!content.problems.length) return nothing;
  return table({
    title: "Problems",
    note: "Images without an answer, by the code in the column problem.",
    head: ["code", "images", "for example"],
    rows: content.problems.map((one) => [one.code, whole(one.count), one.examples.join(", ")]),
  });
}
