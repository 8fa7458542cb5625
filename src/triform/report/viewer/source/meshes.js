// Meshes coloured by a value at each vertex: all views of a panel turn with one camera.
import { coordinates, levels, meshScene, paint, pointsScene, Stage, unzipped } from "./stage.js";

export async function startMeshes(panels, renderer) {
  const elements = [...document.querySelectorAll(".meshes")];
  return Promise.all(panels.map((panel, index) => startPanel(elements[index], panel, renderer)));
}

async function startPanel(element, panel, renderer) {
  const faces = await Promise.all(panel.faces.map(indices));
  const scenes = await Promise.all(panel.views.map((data) => viewScene(data, faces[data.faces], panel.ramp)));
  const stage = new Stage(element.querySelector("[data-meshes]"), panel.frame, scenes, renderer);
  stage.draw();
  element.classList.add("live");
  return stage;
}

async function indices({ packed, count }) {
  const view = await unzipped(packed);
  return Uint32Array.from({ length: 3 * count }, (_, i) => view.getUint32(4 * i, true));
}

// The bytes: 16-bit coordinates, then 8-bit places on the colour scale.
async function viewScene(data, faces, ramp) {
  const view = await unzipped(data.packed);
  const points = coordinates(view, 0, data.count, data);
  const values = levels(view, 6 * data.count, data.count);
  const scene = faces ? meshScene(points, faces) : pointsScene(points, data.dot);
  paint(scene, ramp, (i) => values[i]);
  return scene;
}
