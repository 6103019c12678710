// How to read the numbers, and whose data they rest on.
import { html, nothing } from "lit-html";
import { whole } from "./format.js";

export function footer({ metrics, num_places_as_country, world }) {
  return html`
    ${num_places_as_country ? html`<p>${countries(num_places_as_country)}</p>` : nothing}
    ${metrics ? html`<p>${SHARES}</p>` : nothing}
    <p>Map: ${world.source}; ${world.licence}. ${PLACES}</p>
    <p>${USE}</p>`;
}

const countries = (count) => `The true country of ${whole(count)} images is that of the nearest place.`;
const SHARES =
  "Shares count errors strictly below the threshold; an image without an answer is a miss and has 0 points, and is " +
  "left out of median, mean and calibration.";
const PLACES = "Names of places: GeoNames (CC BY 4.0), the nearest place of more than 1,000 people.";
const USE =
  "An answer is an estimate: read it with its radius, and don't use it to find people who don't want to be found.";
