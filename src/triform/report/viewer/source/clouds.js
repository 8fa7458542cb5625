// Pairs of clouds. One WebGL context draws every pair: two scissored views with one camera on a hidden canvas, copied to the page's
// own 2D canvases. So a page may hold any number of pairs, nothing moves while it scrolls, and nothing is drawn unless asked for.
import { BufferAttribute, BufferGeometry, Color, PerspectiveCamera, Points, Scene, ShaderMaterial, WebGLRenderer } from "three";
import { FIELD_OF_VIEW, listen, Orbit } from "./orbit.js";

const VERTEX = `
  uniform float pixels, diameter, nearest, farthest;
  attribute vec3 tint;
  varying vec3 shade;
  varying float away;
  void main() {
    vec4 seen = modelViewMatrix * vec4(position, 1.0);
    gl_Position = projectionMatrix * seen;
    gl_PointSize = clamp(diameter * pixels / -seen.z, 2.4, 64.0);
    away = clamp((-seen.z - nearest) / (farthest - nearest), 0.0, 1.0);
    shade = tint;
  }`;
const FRAGMENT = `
  uniform vec3 ground;
  varying vec3 shade;
  varying float away;
  void main() {
    vec2 at = 2.0 * gl_PointCoord - 1.0;
    float inside = dot(at, at);
    if (inside > 1.0) discard;
    gl_FragColor = vec4(mix(shade * (1.0 - 0.38 * inside * inside), ground, 0.45 * away), 1.0);
  }`;

export async function startClouds(panels) {
  const renderer = panels.length && "DecompressionStream" in window ? makeRenderer() : null;
  const elements = [...document.querySelectorAll(".clouds")];
  const pairs = [];
  if (renderer) {
    for (const [index, panel] of panels.entries()) pairs.push(...(await startPanel(elements[index], panel, renderer)));
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => pairs.forEach((pair) => pair.request()));
  } else elements.forEach((element) => element.classList.add("still"));
  return testHook(renderer, pairs);
}

function makeRenderer() {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("webgl2", { antialias: true, alpha: true, powerPreference: "low-power" });
  if (!context) return null;
  const renderer = new WebGLRenderer({ canvas, context, antialias: true });
  renderer.setScissorTest(true);
  renderer.setClearColor(0x000000, 0);
  return renderer;
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
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const view = new DataView(await new Response(stream).arrayBuffer());
  let at = 0;
  const positions = counts.map((count) => {
    const points = new Float32Array(count * 3);
    for (let i = 0; i < points.length; i += 1, at += 2) {
      points[i] = low[i % 3] - frame.center[i % 3] + (view.getUint16(at, true) / 65535) * span[i % 3];
    }
    return points;
  });
  const errors = counts.map((count, side) => {
    if (!has_error[side]) return null;
    at += count;
    return Float32Array.from(new Uint8Array(view.buffer, at - count, count), (level) => level / 255);
  });
  return { positions, errors };
}

class Pair {
  constructor(article, data, { positions, errors }, panel, renderer) {
    Object.assign(this, { article, data, positions, errors, panel, renderer, draws: 0, waiting: false });
    this.stage = article.querySelector(".stage");
    this.canvases = [...article.querySelectorAll("canvas")];
    this.camera = new PerspectiveCamera();
    this.orbit = new Orbit({ frame: data.frame, changed: () => this.request() });
    this.scenes = positions.map((points, side) => this.scene(points, data.dots[side]));
    listen(this.stage, this.orbit, () => this.aspect());
    const reset = article.querySelector(".reset");
    reset.hidden = false;
    reset.addEventListener("click", () => this.orbit.reset());
    article.classList.add("live");
    new ResizeObserver(() => this.request()).observe(this.stage);
  }

  scene(points, diameter) {
    const geometry = new BufferGeometry();
    geometry.setAttribute("position", new BufferAttribute(points, 3));
    geometry.setAttribute("tint", new BufferAttribute(new Uint8Array(points.length), 3, true));
    const uniforms = { pixels: { value: 1 }, diameter: { value: diameter }, nearest: { value: 0 }, farthest: { value: 1 }, ground: { value: new Color() } };
    const cloud = new Points(geometry, new ShaderMaterial({ vertexShader: VERTEX, fragmentShader: FRAGMENT, uniforms }));
    cloud.frustumCulled = false;
    return new Scene().add(cloud);
  }

  colour(mode) {
    const { up, half_height } = this.data.frame;
    this.positions.forEach((points, side) => {
      const errors = this.errors[side];
      const tint = this.scenes[side].children[0].geometry.attributes.tint;
      const ramp = mode === "error" && !errors ? [this.panel.plain, this.panel.plain] : this.panel.ramps[mode];
      const stops = ramp.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
      for (let i = 0; i < points.length / 3; i += 1) {
        const part = mode === "error" ? (errors ? errors[i] : 0) : points[3 * i + up] / (2 * half_height) + 0.5;
        tint.array.set(mixed(stops, Math.min(Math.max(part, 0), 1)), 3 * i);
      }
      tint.needsUpdate = true;
    });
    this.request();
  }

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  aspect() {
    return this.canvases[0].clientWidth / Math.max(this.canvases[0].clientHeight, 1);
  }

  draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [this.canvases[0].clientWidth, this.canvases[0].clientHeight].map((side) => Math.round(side * ratio));
    if (!width || !height) return;
    const hidden = this.renderer.domElement;
    if (hidden.width < 2 * width || hidden.height < height) {
      this.renderer.setSize(Math.max(hidden.width, 2 * width), Math.max(hidden.height, height), false);
    }
    this.orbit.aim(this.camera, width / height);
    const ground = getComputedStyle(this.stage).getPropertyValue("--stage").trim();
    this.scenes.forEach((scene, side) => {
      this.uniforms(scene, height, ground);
      this.renderer.setViewport(side * width, 0, width, height);
      this.renderer.setScissor(side * width, 0, width, height);
      this.renderer.clear();
      this.renderer.render(scene, this.camera);
    });
    this.canvases.forEach((canvas, side) => {
      Object.assign(canvas, { width, height });
      canvas.getContext("2d").drawImage(hidden, side * width, hidden.height - height, width, height, 0, 0, width, height);
    });
    this.draws += 1;
  }

  uniforms(scene, height, ground) {
    const { radius, half_height } = this.data.frame;
    const [size, distance] = [Math.max(radius, half_height), this.camera.position.length()];
    const { pixels, nearest, farthest, ground: colour } = scene.children[0].material.uniforms;
    pixels.value = height / (2 * Math.tan((FIELD_OF_VIEW * Math.PI) / 360));
    [nearest.value, farthest.value] = [distance - size, distance + size];
    colour.value.setStyle(ground, "srgb-linear");
  }
}

// The colours are plain sRGB numbers from the page to the screen, as in the posters: no colour management in between.
function mixed(stops, part) {
  const place = part * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return stops[low].map((from, channel) => Math.round(from + (place - low) * (stops[low + 1][channel] - from)));
}

function testHook(renderer, pairs) {
  return {
    webgl: Boolean(renderer),
    views: pairs.length * 2,
    draws: () => pairs.reduce((sum, pair) => sum + pair.draws, 0),
    camera: (index) => ({ azimuth: pairs[index].orbit.azimuth, elevation: pairs[index].orbit.elevation, zoom: pairs[index].orbit.zoom }),
    pixels: (index) => {
      const canvas = pairs[index >> 1].canvases[index & 1];
      const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
      const words = new Uint32Array(data.buffer);
      const drawn = words.reduce((sum, word) => sum + (word !== 0), 0);
      const digest = words.reduce((sum, word) => (Math.imul(sum, 31) + word) | 0, 7);
      return { drawn, colours: new Set(words).size, width: canvas.width, height: canvas.height, digest };
    },
  };
}
