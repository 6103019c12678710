// The best and the worst images, each with its answer, what is true, and what else the model considered.
import { html, nothing } from "lit-html";
import { degrees, km, percent } from "./format.js";

export function best(content) {
  return content.metrics
    ? gallery(content.best, "The best", "The images with the smallest errors.")
    : gallery(content.best, "The most certain", "The images with the smallest 90 % radius.");
}

export function worst(content) {
  return content.metrics
    ? gallery(content.worst, "The worst", "The images with the largest errors, and what else the model considered.")
    : gallery(content.worst, "The least certain", "The images with the largest 90 % radius.");
}

function gallery(images, title, note) {
  if (!images.length) return nothing;
  return html`<h2>${title}</h2>
    <p class="note">${note}</p>
    <div class="cards">${images.map(card)}</div>`;
}

function card({ id, picture, answer, truth, radius_km_50, radius_km_90, candidates }) {
  const fact = (name, value, detail) => html`<dt>${name}</dt><dd>${value} <small>${detail}</small></dd>`;
  return html`<article class="card">
    ${pictureOf(picture)}
    <div>
      <h3>${truth ? `${km(answer.error_km)} off` : radius_km_90 === null ? "no radius" : `${km(radius_km_90)} radius`}</h3>
      <dl>
        ${truth ? fact("Truth", truth.label, degrees(truth.latlon)) : nothing}
        ${fact("Answer", answer.label, degrees(answer.latlon))}
        ${radius_km_90 === null
          ? fact("Radius", "not stated", "not calibrated, or unlike the images that the bundle knows")
          : fact("Radius", `${km(radius_km_90)} (90 %)`, `${km(radius_km_50)} (50 %)`)}
      </dl>
    </div>
    <p class="name">${id}${candidates.length ? " · candidates:" : nothing}</p>
    <ol>${candidates.map(candidate)}</ol>
  </article>`;
}

// Images of two runs, each with both answers.
export function comparedGallery(images, title, note) {
  if (!images.length) return nothing;
  return html`<h2>${title}</h2>
    <p class="note">${note}</p>
    <div class="cards">${images.map(comparedCard)}</div>`;
}

function comparedCard({ id, picture, answer, other, truth }) {
  const fact = (name, { label, error_km }) =>
    html`<dt>${name}</dt><dd>${label} <small>${km(error_km)} off</small></dd>`;
  return html`<article class="card">
    ${pictureOf(picture)}
    <div>
      <h3>${km(Math.abs(answer.error_km - other.error_km))} nearer</h3>
      <dl>
        <dt>Truth</dt><dd>${truth.label} <small>${degrees(truth.latlon)}</small></dd>
        ${fact("First", answer)}${fact("Second", other)}
      </dl>
    </div>
    <p class="name">${id}</p>
  </article>`;
}

const pictureOf = (picture) =>
  picture ? html`<img src=${picture} alt="">` : html`<div class="empty">the image can't be read here</div>`;

function candidate({ probability, label, latlon, error_km }) {
  const share = `--share: ${(100 * (probability ?? 0)).toFixed(1)}%`;
  const stated = probability !== null && probability < 0.0005 ? "< 0.1 %" : percent(probability);
  return html`<li>
    <b .style=${share}>${stated}</b>
    <span title=${label}>${label}</span>
    <small>${error_km === null ? degrees(latlon) : `${km(error_km)} off`}</small>
  </li>`;
}
