// Pairs of clouds: two views with one camera, coloured by error or by height.
import { coordinates, levels, paint, pointsScene, Stage, unzipped } from "./stage.js";

export async function startClouds(panels, renderer) {
  const elements = [...document.querySelectorAll(".clouds")];
  return (await Promise.all(panels.map((panel, index) => startPanel(elements[index], panel, renderer)))).flat();
}

async function startPanel(element, panel, renderer) {
  const toolbar = element.querySelector(".toolbar");
  const articles = [...element.querySelectorAll("[data-pair]")];
  const pairs = await Promise.all(panel.pairs.map(async (data, index) => new Pair(articles[index], data, await unpack(data), panel, renderer)));
  for (const button of toolbar.querySelectorAll("[data-colour]")) {
    button.addEventListener("click", () => {
      toolbar.dataset.mode = button.dataset.colour;
      toolbar.querySelectorAll("[data-colour]").forEach((other) => other.setAttribute("aria-pressed", String(other === button)));
      pairs.forEach((pair) => pair.colour(button.dataset.colour));
    });
  }
  pairs.forEach((pair) => { pair.colour(toolbar.dataset.mode); pair.draw(); });
  element.classList.add("live");
  return pairs;
}

// The bytes: 16-bit coordinates of both clouds, then 8-bit places on the colour scale of those that have errors.
async function unpack({ packed, counts, has_error, low, span, frame }) {
  const view = await unzipped(packed);
  let at = 0;
  const next = (bytes) => { at += bytes; return at - bytes; };
  const positions = counts.map((count) => coordinates(view, next(6 * count), count, { low, span, center: frame.center }));
  const errors = counts.map((count, side) => (has_error[side] ? levels(view, next(count), count) : null));
  return { positions, errors };
}

class Pair extends Stage {
  constructor(article, data, { positions, errors }, panel, renderer) {
    super(article, data.frame, positions.map((points, side) => pointsScene(points, data.dots[side])), renderer);
    Object.assign(this, { positions, errors, panel });
  }

  colour(mode) {
    const { up, half_height } = this.frame;
    this.positions.forEach((points, side) => {
      const errors = this.errors[side];
      const ramp = mode === "error" && !errors ? [this.panel.plain, this.panel.plain] : this.panel.ramps[mode];
      const byError = errors ? (i) => errors[i] : () => 0;
      paint(this.scenes[side], ramp, mode === "error" ? byError : (i) => points[3 * i + up] / (2 * half_height) + 0.5);
    });
    this.request();
  }
}
