// The report's script: without it the page still shows everything but hover read-outs, sorting and turning clouds and meshes.
import { startCharts, startMaps } from "./charts.js";
import { startClouds } from "./clouds.js";
import { startMeshes } from "./meshes.js";
import { startNavigation, startTables } from "./page.js";
import { makeRenderer, testHook } from "./stage.js";

async function start() {
  const data = JSON.parse(document.getElementById("triform-data").textContent);
  startNavigation();
  startTables();
  startCharts(data.charts);
  startMaps(data.maps);
  await startStages(data);
  document.body.dataset.ready = "true";
}

async function startStages({ clouds, meshes }) {
  const needed = clouds.length + meshes.length > 0 && "DecompressionStream" in window;
  const renderer = needed ? makeRenderer() : null;
  const stages = renderer ? [...(await startClouds(clouds, renderer)), ...(await startMeshes(meshes, renderer))] : [];
  if (!renderer) document.querySelectorAll(".clouds, .meshes").forEach((element) => element.classList.add("still"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => stages.forEach((stage) => stage.request()));
  window.triformTest = testHook(renderer, stages);
}

start();
