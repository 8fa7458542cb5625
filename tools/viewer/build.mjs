// Bundles the report's viewer with the pinned three.js, and records the bundle's SHA-256 and three's licence beside it.
import { createHash } from "node:crypto";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { buildSync } from "esbuild";

const here = (path) => fileURLToPath(new URL(path, import.meta.url));
const viewer = here("../../src/triform/report/viewer");
const licence = readFileSync(here("node_modules/three/LICENSE"), "utf8").trim();

buildSync({
  entryPoints: [`${viewer}/source/main.js`],
  outfile: `${viewer}/viewer.min.js`,
  nodePaths: [here("node_modules")],
  banner: { js: `/*! This file contains three.js.\n\n${licence}\n*/` },
  bundle: true,
  minify: true,
  format: "iife",
  target: "es2022",
  legalComments: "none",
});
copyFileSync(here("node_modules/three/LICENSE"), `${viewer}/three.LICENSE.txt`);
const digest = createHash("sha256").update(readFileSync(`${viewer}/viewer.min.js`)).digest("hex");
writeFileSync(`${viewer}/viewer.min.js.sha256`, `${digest}  viewer.min.js\n`);
console.log(`viewer.min.js ${digest}`);
