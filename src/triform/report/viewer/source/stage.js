// Views that turn together. One WebGL context draws every stage: each view on a hidden canvas, copied to the page's own 2D canvas. So a
// page may hold any number of stages, nothing moves while it scrolls, and nothing is drawn unless asked for.
import {
  BufferAttribute, BufferGeometry, Color, DoubleSide, Mesh, PerspectiveCamera, Points, Scene, ShaderMaterial, WebGLRenderer,
} from "three";
import { FIELD_OF_VIEW, listen, Orbit } from "./orbit.js";

const POINT_VERTEX = `
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
const POINT_FRAGMENT = `
  uniform vec3 ground;
  varying vec3 shade;
  varying float away;
  void main() {
    vec2 at = 2.0 * gl_PointCoord - 1.0;
    float inside = dot(at, at);
    if (inside > 1.0) discard;
    gl_FragColor = vec4(mix(shade * (1.0 - 0.38 * inside * inside), ground, 0.45 * away), 1.0);
  }`;
const MESH_VERTEX = `
  attribute vec3 tint;
  varying vec3 shade, facing;
  void main() {
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
    facing = normalMatrix * normal;
    shade = tint;
  }`;
// The light stands beside the camera, and both sides of a face take it: the same numbers as in the posters (mesh_poster.py).
const MESH_FRAGMENT = `
  varying vec3 shade, facing;
  void main() {
    vec3 upright = facing / max(length(facing), 1e-9);
    float lit = 0.54 + 0.50 * max(dot(upright.z < 0.0 ? -upright : upright, vec3(-0.3, 0.5, 0.8124)), 0.0);
    gl_FragColor = vec4(min(shade * lit, 1.0), 1.0);
  }`;

export function makeRenderer() {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("webgl2", { antialias: true, alpha: true, powerPreference: "low-power" });
  if (!context) return null;
  const renderer = new WebGLRenderer({ canvas, context, antialias: true });
  renderer.setScissorTest(true);
  renderer.setClearColor(0x000000, 0);
  return renderer;
}

export async function unzipped(packed) {
  const bytes = Uint8Array.from(atob(packed), (letter) => letter.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new DataView(await new Response(stream).arrayBuffer());
}

// 16-bit parts of a box, as coordinates about `center`.
export function coordinates(view, at, count, { low, span, center }) {
  const points = new Float32Array(count * 3);
  for (let i = 0; i < points.length; i += 1) points[i] = low[i % 3] - center[i % 3] + (view.getUint16(at + 2 * i, true) / 65535) * span[i % 3];
  return points;
}

// 8-bit parts of a colour scale.
export function levels(view, at, count) {
  return Float32Array.from(new Uint8Array(view.buffer, at, count), (level) => level / 255);
}

export function pointsScene(points, diameter) {
  const uniforms = { pixels: { value: 1 }, diameter: { value: diameter }, nearest: { value: 0 }, farthest: { value: 1 }, ground: { value: new Color() } };
  return sceneOf(new Points(tinted(points), new ShaderMaterial({ vertexShader: POINT_VERTEX, fragmentShader: POINT_FRAGMENT, uniforms })));
}

export function meshScene(points, faces) {
  const geometry = tinted(points);
  geometry.setIndex(new BufferAttribute(faces, 1));
  geometry.computeVertexNormals();
  return sceneOf(new Mesh(geometry, new ShaderMaterial({ vertexShader: MESH_VERTEX, fragmentShader: MESH_FRAGMENT, side: DoubleSide })));
}

function tinted(points) {
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(points, 3));
  geometry.setAttribute("tint", new BufferAttribute(new Uint8Array(points.length), 3, true));
  return geometry;
}

function sceneOf(object) {
  object.frustumCulled = false;
  return new Scene().add(object);
}

// Colours every vertex by `part(index)`, a place on the ramp in 0..1. The colours are plain sRGB numbers from the page to the screen,
// as in the posters: no colour management in between.
export function paint(scene, ramp, part) {
  const { tint } = scene.children[0].geometry.attributes;
  const stops = ramp.map((stop) => [1, 3, 5].map((at) => parseInt(stop.slice(at, at + 2), 16)));
  for (let i = 0; i < tint.count; i += 1) tint.array.set(mixed(stops, Math.min(Math.max(part(i), 0), 1)), 3 * i);
  tint.needsUpdate = true;
}

function mixed(stops, part) {
  const place = part * (stops.length - 1);
  const low = Math.min(Math.floor(place), stops.length - 2);
  return stops[low].map((from, channel) => Math.round(from + (place - low) * (stops[low + 1][channel] - from)));
}

export class Stage {
  constructor(article, frame, scenes, renderer) {
    Object.assign(this, { article, frame, scenes, renderer, draws: 0, waiting: false });
    this.stage = article.querySelector(".stage");
    this.canvases = [...article.querySelectorAll("canvas")];
    this.camera = new PerspectiveCamera();
    this.orbit = new Orbit({ frame, changed: () => this.request() });
    listen(this.stage, this.orbit, this.canvases[0]);
    const reset = article.querySelector(".reset");
    reset.hidden = false;
    reset.addEventListener("click", () => this.orbit.reset());
    article.classList.add("live");
    new ResizeObserver(() => this.request()).observe(this.stage);
  }

  request() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  draw() {
    const ratio = Math.min(window.devicePixelRatio || 1, 2);
    const [width, height] = [this.canvases[0].clientWidth, this.canvases[0].clientHeight].map((side) => Math.round(side * ratio));
    if (!width || !height) return;
    const hidden = this.renderer.domElement;
    if (hidden.width < width || hidden.height < height) {
      this.renderer.setSize(Math.max(hidden.width, width), Math.max(hidden.height, height), false);
    }
    this.renderer.setViewport(0, 0, width, height);
    this.renderer.setScissor(0, 0, width, height);
    this.orbit.aim(this.camera, width / height);
    const ground = getComputedStyle(this.stage).getPropertyValue("--stage").trim();
    this.scenes.forEach((scene, side) => {
      this.uniforms(scene, height, ground);
      this.renderer.clear();
      this.renderer.render(scene, this.camera);
      const canvas = Object.assign(this.canvases[side], { width, height });
      canvas.getContext("2d").drawImage(hidden, 0, hidden.height - height, width, height, 0, 0, width, height);
    });
    this.draws += 1;
  }

  uniforms(scene, height, ground) {
    const { pixels, nearest, farthest, ground: colour } = scene.children[0].material.uniforms;
    if (!pixels) return;
    const { radius, half_height } = this.frame;
    const [size, distance] = [Math.max(radius, half_height), this.camera.position.length()];
    pixels.value = height / (2 * Math.tan((FIELD_OF_VIEW * Math.PI) / 360));
    [nearest.value, farthest.value] = [distance - size, distance + size];
    colour.value.setStyle(ground, "srgb-linear");
  }
}

export function testHook(renderer, stages) {
  const canvases = stages.flatMap((stage) => stage.canvases);
  return {
    webgl: Boolean(renderer),
    views: canvases.length,
    draws: () => stages.reduce((sum, stage) => sum + stage.draws, 0),
    camera: (index) => ({ azimuth: stages[index].orbit.azimuth, elevation: stages[index].orbit.elevation, zoom: stages[index].orbit.zoom }),
    pixels: (index) => {
      const { data, width, height } = readOut(canvases[index]);
      const words = new Uint32Array(data.buffer);
      const drawn = words.reduce((sum, word) => sum + (word !== 0), 0);
      const digest = words.reduce((sum, word) => (Math.imul(sum, 31) + word) | 0, 7);
      return { drawn, colours: new Set(words).size, width, height, digest };
    },
  };
}

// By way of a copy in memory: a browser that reads a canvas directly may take it off the GPU from then on, and the two divide colours by
// their opacity with different rounding. Two readings of one picture would differ, and whoever looks would change what is looked at.
function readOut(view) {
  const { width, height } = view;
  const context = Object.assign(document.createElement("canvas"), { width, height }).getContext("2d", { willReadFrequently: true });
  context.drawImage(view, 0, 0);
  return context.getImageData(0, 0, width, height);
}
