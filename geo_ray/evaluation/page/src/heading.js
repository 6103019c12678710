// What was run, how it ended, and the key figures.
import { median } from "d3";
import { html, nothing } from "lit-html";
import { km, percent, whole } from "./format.js";

export function heading(content) {
  const { bundle, num_images, num_answered } = content;
  const title = `${whole(num_images)} images${bundle.ref ? `, located with ${bundle.ref}` : ""}`;
  document.title = `${title} · geo-ray report`;
  const facts = {
    Answered: `${whole(num_answered)} of ${whole(num_images)}`,
    Problems: whole(num_images - num_answered),
    Truth: content.matching || "none given: the report shows the answers and how certain they are",
    Bundle: [bundle.kind, bundle.fingerprint].filter(Boolean).join(" · ") || "not recorded",
    Folder: content.path,
  };
  return html`
    <h1>${title}</h1>
    <p class="lead">${bundle.description ? `What the bundle is for: ${bundle.description}.` : nothing}</p>
    <dl class="facts">
      ${Object.entries(facts).map(([name, value]) => html`<div><dt>${name}</dt><dd>${value}</dd></div>`)}
    </dl>
    ${content.finished ? nothing : unfinished}`;
}

const unfinished = html`<p class="warning">
  This run has not finished (no _SUCCESS file): images are missing here.
</p>`;

export function figures(content) {
  const named = content.metrics ? figuresOfErrors(content.metrics) : figuresOfAnswers(content);
  if (content.images_per_second) named["images per second"] = whole(content.images_per_second);
  return Object.entries(named).map(
    ([name, value]) => html`<div class="figure"><b>${value}</b><span>${name}</span></div>`,
  );
}

const figuresOfErrors = (metrics) => ({
  "median error": km(metrics.median_error_km),
  "within 25 km": percent(metrics.accuracy_at_km[25]),
  "within 200 km": percent(metrics.accuracy_at_km[200]),
  "right country": percent(metrics.country_accuracy),
  "GeoGuessr points": whole(metrics.geoguessr_score),
});

const figuresOfAnswers = (content) => ({
  "images answered": whole(content.num_answered),
  "median 90 % radius": km(median(content.map.radius_km_90)),
});
