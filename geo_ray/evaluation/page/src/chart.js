// A chart by Observable Plot in a figure with its title and key, drawn again when its width changes.
import { plot } from "@observablehq/plot";
import { html } from "lit-html";

export const TIP = { fill: "var(--card)", stroke: "var(--line)", fontSize: 12, textPadding: 9 };

// `draw` makes Plot's options for a width in pixels; `keys` are names with the class of their line's sample.
export function chart({ title, label, keys = {}, draw }) {
  const box = document.createElement("div");
  box.className = "chart";
  new ResizeObserver(() => box.clientWidth && box.replaceChildren(picture(label, box.clientWidth, draw))).observe(box);
  const key = ([name, style]) => html`<span class="key"><i class=${style}></i><span>${name}</span></span>`;
  return html`<figure><figcaption>${title}${Object.entries(keys).map(key)}</figcaption>${box}</figure>`;
}

function picture(label, width, draw) {
  const margins = { marginLeft: 46, marginRight: 12, marginTop: 28, marginBottom: 40 };
  const drawn = plot({ ...margins, width, height: Math.max(220, 0.535 * width), ariaLabel: label, ...draw(width) });
  drawn.querySelector("style").remove(); // the page's policy allows no style but its own, which has these rules
  return drawn;
}
