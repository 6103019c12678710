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
    ...(content.metrics && {
      Places: `${whole(content.metrics.by_place.num_places)}: ${content.metrics.by_place.grouped_by}`,
    }),
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

// By place: the many photos of a city say little of other places.
const figuresOfErrors = ({ by_place: place }) => ({
  "median error by place": km(place.median_error_km),
  "of places within 25 km": percent(place.accuracy_at_km[25]),
  "of places within 200 km": percent(place.accuracy_at_km[200]),
  "of places in the right country": percent(place.country_accuracy),
  "GeoGuessr points by place": whole(place.geoguessr_score),
});

const figuresOfAnswers = (content) => ({
  "images answered": whole(content.num_answered),
  "median 90 % radius": km(median(content.map.radius_km_90)),
});
