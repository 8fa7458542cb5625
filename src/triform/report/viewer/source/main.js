// The report's script: without it the page still shows everything but hover read-outs, sorting and turning clouds.
import { startCharts, startMaps } from "./charts.js";
import { startClouds } from "./clouds.js";
import { startNavigation, startTables } from "./page.js";

async function start() {
  const data = JSON.parse(document.getElementById("triform-data").textContent);
  startNavigation();
  startTables();
  startCharts(data.charts);
  startMaps(data.maps);
  window.triformTest = await startClouds(data.clouds);
  document.body.dataset.ready = "true";
}

start();
