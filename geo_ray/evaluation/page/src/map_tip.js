// What the map says of an image under the pointer.
import { html, nothing, render } from "lit-html";
import { degrees, km } from "./format.js";

// Shows the image's tip at a place of the map in pixels, or hides it where there is no image.
export function showTip(tip, image, x, y) {
  tip.hidden = !image;
  if (!image) return;
  render(textOf(image), tip);
  const { clientWidth: width, clientHeight: height } = tip.parentElement;
  tip.style.left = `${Math.min(x + 14, Math.max(0, width - tip.offsetWidth - 6))}px`;
  tip.style.top = `${y + 18 + tip.offsetHeight > height ? Math.max(4, y - tip.offsetHeight - 12) : y + 18}px`;
}

const textOf = ({ id, answer, truth, km: error, other_km, radius_km_90 }) => html`
  <b>${id}</b>
  ${place("Answer", answer)}
  ${truth ? place("Truth", truth) : nothing}
  ${other_km === undefined ? nothing : html`<span>Error in the second run ${km(other_km)}</span>`}
  <span>${truth ? `Error ${km(error)}; ` : nothing}90 % radius ${km(radius_km_90)}</span>`;

const place = (name, { label, latlon }) => html`<span>${name}: ${label} (${degrees(latlon)})</span>`;
