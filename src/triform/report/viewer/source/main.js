// The report's script: without it the page still shows everything but hover read-outs, sorting, turning clouds and meshes, and playing poses.
import { startCharts, startMaps } from "./charts.js";
import { startClouds } from "./clouds.js";
import { startMeshes } from "./meshes.js";
import { startNavigation, startTables } from "./page.js";
import { poseHook, startPoses } from "./poses.js";
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

async function startStages({ clouds, meshes, poses }) {
  const able = "DecompressionStream" in window;
  const renderer = able && clouds.length + meshes.length + poses.length > 0 ? makeRenderer() : null;
  const stages = renderer ? [...(await startClouds(clouds, renderer)), ...(await startMeshes(meshes, renderer))] : [];
  const players = able ? await startPoses(poses, renderer) : [];
  stages.push(...players.flatMap(({ stage }) => stage ?? []));
  if (!renderer) document.querySelectorAll(".clouds, .meshes, .poses").forEach((element) => element.classList.add("still"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => stages.forEach((stage) => stage.request()));
  window.triformTest = { ...testHook(renderer, stages), ...poseHook(players) };
}

start();
