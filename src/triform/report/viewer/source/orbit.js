// The camera of one stage: azimuth and elevation about the upright axis, with the same formulas as the posters (poster.py).

const AZIMUTH = (35 * Math.PI) / 180;
const ELEVATION = (14 * Math.PI) / 180;
export const FIELD_OF_VIEW = 30;
const HALF = Math.tan((FIELD_OF_VIEW * Math.PI) / 360);
const KEY_TURN = Math.PI / 24;

export class Orbit {
  constructor({ frame, changed }) {
    this.frame = frame;
    this.changed = changed;
    this.set();
  }

  set() {
    Object.assign(this, { azimuth: AZIMUTH, elevation: ELEVATION, zoom: 1, pan: [0, 0] });
  }

  reset() {
    this.set();
    this.changed();
  }

  turn(right, above) {
    this.azimuth -= right;
    this.elevation = Math.min(Math.max(this.elevation + above, -1.55), 1.55);
    this.changed();
  }

  scale(factor) {
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.3), 40);
    this.changed();
  }

  // `right` and `above` in parts of the picture's height
  move(right, above, aspect) {
    const height = 2 * HALF * this.distance(aspect);
    this.pan = [this.pan[0] - right * height, this.pan[1] + above * height];
    this.changed();
  }

  distance(aspect) {
    const { radius, half_height } = this.frame;
    const [cos, sin] = [Math.cos(ELEVATION), Math.sin(ELEVATION)];
    const rims = [1, -1].flatMap((end) => [1, -1].map((side) => [half_height * end, radius * side]));
    const upright = Math.max(...rims.map(([up, out]) => Math.abs(up * cos - out * sin) / HALF + out * cos + up * sin));
    const across = radius / Math.sin(Math.atan(HALF * aspect));
    return Math.max(upright, across) / this.zoom;
  }

  // Aims a camera whose target is the origin: points are centred when they are unpacked.
  aim(camera, aspect) {
    const { up, radius, half_height } = this.frame;
    const unit = (turn) => [0, 1, 2].map((axis) => Number(axis === (up + turn) % 3));
    const mix = (a, u, b, v) => u.map((part, axis) => a * part + b * v[axis]);
    const [cosA, sinA, cosE, sinE] = [Math.cos(this.azimuth), Math.sin(this.azimuth), Math.cos(this.elevation), Math.sin(this.elevation)];
    const level = mix(cosA, unit(1), sinA, unit(2));
    const back = mix(cosE, level, sinE, unit(0));
    const right = mix(-sinA, unit(1), cosA, unit(2));
    const above = mix(-sinE, level, cosE, unit(0));
    const target = mix(this.pan[0], right, this.pan[1], above);
    const distance = this.distance(aspect);
    const size = Math.hypot(radius, half_height) * 1.5 + Math.hypot(...this.pan);
    camera.up.set(...above);
    camera.position.set(...mix(distance, back, 1, target));
    camera.lookAt(...target);
    Object.assign(camera, { fov: FIELD_OF_VIEW, aspect, near: Math.max(distance - size, distance * 0.02), far: distance + size });
    camera.updateProjectionMatrix();
  }
}

// Mouse: drag turns, shift or right button moves, the wheel zooms once the view has focus (so that the page still scrolls).
// Touch: one finger sideways turns, two fingers zoom and move. Keys: arrows, plus, minus, 0.
// `view` is one of the views on the stage: drags are measured by its size, however many rows of views there are.
export function listen(stage, orbit, view) {
  const aspect = () => view.clientWidth / Math.max(view.clientHeight, 1);
  const fingers = new Map();
  stage.addEventListener("pointerdown", (event) => {
    fingers.set(event.pointerId, event);
    stage.setPointerCapture(event.pointerId);
    stage.focus({ preventScroll: true });
  });
  stage.addEventListener("pointermove", (event) => {
    const before = fingers.get(event.pointerId);
    if (!before) return;
    const spread = spreadOf(fingers);
    fingers.set(event.pointerId, event);
    const height = view.clientHeight;
    const [dx, dy] = [(event.clientX - before.clientX) / height, (event.clientY - before.clientY) / height];
    if (fingers.size > 1) {
      if (spread > 0) orbit.scale(spreadOf(fingers) / spread);
      orbit.move(dx / fingers.size, dy / fingers.size, aspect());
    } else if (event.shiftKey || event.buttons & 6) orbit.move(dx, dy, aspect());
    else orbit.turn(dx * Math.PI, dy * Math.PI);
  });
  for (const end of ["pointerup", "pointercancel"]) stage.addEventListener(end, (event) => fingers.delete(event.pointerId));
  stage.addEventListener("contextmenu", (event) => event.preventDefault());
  stage.addEventListener("dblclick", () => orbit.reset());
  stage.addEventListener("wheel", (event) => {
    if (document.activeElement !== stage && !event.ctrlKey) return;
    event.preventDefault();
    orbit.scale(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)));
  }, { passive: false });
  stage.addEventListener("keydown", (event) => {
    const act = {
      ArrowLeft: () => orbit.turn(-KEY_TURN, 0),
      ArrowRight: () => orbit.turn(KEY_TURN, 0),
      ArrowUp: () => orbit.turn(0, KEY_TURN),
      ArrowDown: () => orbit.turn(0, -KEY_TURN),
      "+": () => orbit.scale(1.15),
      "=": () => orbit.scale(1.15),
      "-": () => orbit.scale(1 / 1.15),
      0: () => orbit.reset(),
    }[event.key];
    if (!act || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    act();
  });
}

function spreadOf(fingers) {
  const [a, b] = [...fingers.values()];
  return b ? Math.hypot(a.clientX - b.clientX, a.clientY - b.clientY) : 0;
}
