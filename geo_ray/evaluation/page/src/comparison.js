// Two runs on the same images: what differs by place, where, and on which images most.
import { html, nothing } from "lit-html";
import { distribution } from "./distribution.js";
import { footer } from "./footer.js";
import { DASH, km, percent, whole } from "./format.js";
import { comparedGallery } from "./gallery.js";
import { table } from "./tables.js";
import { changes } from "./world_map.js";

const nameOf = ({ bundle, path }) => [bundle.ref, path].filter(Boolean).join(" in ");

function heading({ runs: [first, second], num_images, metrics }) {
  document.title = "Two runs compared · geo-ray report";
  const facts = {
    First: nameOf(first),
    Second: nameOf(second),
    Bundles: [first, second].map(({ bundle }) => bundle.fingerprint || "not recorded").join(" and "),
    Images: `${whole(num_images)} that both runs have and whose places are known`,
    Places: `${whole(metrics.by_place.num_places)}: ${metrics.by_place.grouped_by}`,
  };
  return html`
    <h1>Two runs compared</h1>
    <dl class="facts">
      ${Object.entries(facts).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
    ${first.finished && second.finished ? nothing : unfinished}`;
}

const unfinished = html`<p class="warning">
  One of the runs has not finished (no _SUCCESS file): images are missing here.
</p>`;

const WRITTEN = { percent: (value) => percent(value), km, points: whole };
const SIGNED = {
  percent: (value) => signed(value, (size) => percent(size)),
  km: (value) => signed(value, km),
  points: (value) => signed(value, whole),
};
const signed = (value, of) => (value === null ? DASH : `${value < 0 ? "−" : "+"}${of(Math.abs(value))}`);
const rangeOf = ({ interval, unit }) =>
  interval ? `${SIGNED[unit](interval[0])} to ${SIGNED[unit](interval[1])}` : DASH;

function figures({ runs, rows }) {
  const median = rows.find(({ label }) => label === "median error");
  const named = {
    "median error by place, first": km(runs[0].median_error_km),
    "median error by place, second": km(runs[1].median_error_km),
    [`first less second, 95 % interval ${median ? rangeOf(median) : DASH}`]: median ? SIGNED.km(median.value) : DASH,
    "figures in which a difference is shown": `${rows.filter(({ shown }) => shown).length} of ${rows.length}`,
  };
  return Object.entries(named).map(
    ([name, value]) => html`<div class="figure"><b>${value}</b><span>${name}</span></div>`,
  );
}

const tables = ({ rows }) =>
  table({
    title: "Differences",
    note:
      "By place: each block or group of images has one vote. Intervals of the difference are of 1,000 draws of whole " +
      "places, the same for both runs; where one holds 0, no difference is shown. Median, mean and radii are of the " +
      "images that both runs answer.",
    head: ["", "first", "second", "difference", "95 % interval", ""],
    rows: rows.map((row) => [
      row.label,
      WRITTEN[row.unit](row.first),
      WRITTEN[row.unit](row.second),
      SIGNED[row.unit](row.value),
      rangeOf(row),
      row.shown ? "shown" : "not shown",
    ]),
  });

const best = ({ first_nearer }) =>
  comparedGallery(first_nearer, "Nearer in the first run", "The images on which the first run gains most.");
const worst = ({ second_nearer }) =>
  comparedGallery(second_nearer, "Nearer in the second run", "The images on which the second run gains most.");

export const comparison = { heading, figures, map: changes, distribution, tables, best, worst, footer };
