// Bundles src/main.js with its libraries into report.js, the one script of the page. Its banner records the digest of
// the sources, by which a test sees whether the bundle is theirs, and the licences of all that is in it.
import { createHash } from "node:crypto";
import { existsSync, readFileSync, readdirSync, writeFileSync } from "node:fs";
import { build } from "esbuild";

const digest = (text) => createHash("sha256").update(text).digest("hex");

function sourcesDigest() {
  const names = ["build.mjs", "package.json", "package-lock.json", ...readdirSync("src").map((name) => `src/${name}`)];
  return digest(names.sort().map((name) => `${name} ${digest(readFileSync(name))}\n`).join(""));
}

// The licences' texts, each once, below the libraries under it with their copyright lines.
function licences(inputs) {
  const folders = Object.keys(inputs).map((path) => path.match(/^.*node_modules\/(@[^/]+\/)?[^/]+/)?.[0]);
  const libraries = new Map();
  for (const folder of [...new Set(folders)].filter(Boolean).sort()) {
    const { name, version, license } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
    const file = [`${folder}/LICENSE`, `${folder}/LICENSE.md`].find(existsSync);
    if (!file) throw new Error(`${name} ${version} (${license}) has no LICENSE: say in build.mjs where its text is`);
    const text = readFileSync(file, "utf8").replaceAll("\r", "").trim();
    const copyright = text.match(/^Copyright.*$/m)?.[0] ?? "";
    const terms = text.replace(copyright, "").replace(/\n{3,}/g, "\n\n").trim();
    libraries.set(terms, [...(libraries.get(terms) ?? []), `${name} ${version} (${license}). ${copyright}`]);
  }
  return [...libraries].map(([terms, names]) => `${names.join("\n")}\n\n${terms}\n`).join("\n");
}

const { outputFiles, metafile } = await build({
  entryPoints: ["src/main.js"],
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none", // they are in the banner, whole
  metafile: true,
  write: false,
});
const code = outputFiles[0].text;
const banner = `/*! Built by make report-page; not to be edited.
sources sha256 ${sourcesDigest()}
code sha256 ${digest(code)}

It holds these libraries:

${licences(metafile.inputs)}*/
`;
writeFileSync("report.js", banner + code);
console.log(`report.js: ${((banner + code).length / 1000).toFixed(0)} kB`);
