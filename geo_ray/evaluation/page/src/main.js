// The report's page. A part is a function of the content that returns a template; it fills the element of its name in
// report.html. Every text of the content is untrusted (names of files): templates make text nodes of them, not markup.
import { render } from "lit-html";
import { certainty } from "./certainty.js";
import { comparison } from "./comparison.js";
import { distribution } from "./distribution.js";
import { footer } from "./footer.js";
import { best, worst } from "./gallery.js";
import { figures, heading } from "./heading.js";
import { problems, tables } from "./tables.js";
import { coverage, map } from "./world_map.js";

const content = JSON.parse(document.getElementById("content").textContent);
const run = { heading, figures, map, coverage, distribution, certainty, tables, best, worst, problems, footer };
const parts = content.kind === "comparison" ? comparison : run;
for (const [name, part] of Object.entries(parts)) render(part(content), document.getElementById(name));
