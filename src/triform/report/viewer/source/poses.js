// Clips of poses: all views of a panel turn with one camera and play with one clock. The 2D input plays without WebGL too.
import { FlatView } from "./flat.js";
import { Player } from "./player.js";
import { PersonScene } from "./skeleton.js";
import { Stage, unzipped } from "./stage.js";

const MISSING = 65535;

export async function startPoses(panels, renderer) {
  const elements = [...document.querySelectorAll(".poses")];
  return Promise.all(panels.map(async (panel, index) => {
    const clips = await Promise.all(panel.clips.map((clip) => unpack(clip, panel.joints)));
    return new PosePanel(elements[index], panel, clips, renderer);
  }));
}

// The bytes: differences from frame to frame of true and predicted joints and of the 2D input, then a byte for each joint: hidden or not.
async function unpack({ packed, frames, rate, has, low, span, ground }, joints) {
  const view = await unzipped(packed);
  let at = 0;
  const next = (bytes) => { at += bytes; return at - bytes; };
  const [truth, prediction, flat, hidden] = has;
  const solid = (there) => (there ? summed(view, next(6 * frames * joints), frames, 3 * joints, (part) => low + part * span) : null);
  return {
    frames, rate, ground, joints,
    truth: solid(truth),
    prediction: solid(prediction),
    flat: flat ? summed(view, next(4 * frames * joints), frames, 2 * joints, (part) => (3 * part - 1) * 1000) : null,
    hidden: hidden ? new Uint8Array(view.buffer, next(frames * joints), frames * joints) : null,
  };
}

function summed(view, at, frames, values, place) {
  const found = new Float32Array(frames * values);
  const level = new Uint16Array(values);
  for (let i = 0; i < found.length; i += 1) {
    level[i % values] += view.getUint16(at + 2 * i, true);
    found[i] = level[i % values] === MISSING ? NaN : place(level[i % values] / (MISSING - 1));
  }
  return found;
}

class PoseStage extends Stage {
  constructor(article, panel, people, renderer) {
    super(article, panel.frame, people.map((person) => person.scene), renderer);
    this.people = people;
  }

  draw() {
    const style = getComputedStyle(this.stage);
    const look = JSON.stringify(["--ink", "--c1", "--c0", "--c7", "--line"].map((name) => style.getPropertyValue(name).trim()));
    if (look !== this.look) {
      const [middle, left, right, veil, line] = JSON.parse(look).map(rgb);
      this.people.forEach((person) => person.paint({ sides: [middle, left, right], veil, line: line.map((part, i) => 0.6 * part + 0.4 * veil[i]) }));
      this.look = look;
    }
    super.draw();
  }
}

const rgb = (colour) => {
  const digits = colour.length === 4 ? [...colour.slice(1)].map((digit) => digit + digit).join("") : colour.slice(1);
  return [0, 2, 4].map((at) => parseInt(digits.slice(at, at + 2), 16) / 255);
};

class PosePanel {
  constructor(element, panel, clips, renderer) {
    Object.assign(this, { element, panel, clips });
    const article = element.querySelector("[data-poses]");
    const solids = clips.filter((clip) => clip.truth || clip.prediction);
    if (renderer && solids.length) {
      this.people = new Map(solids.map((clip) => [clip, new PersonScene(panel, clip.ground, clip)]));
      this.stage = new PoseStage(article, panel, [...this.people.values()], renderer);
      element.classList.add("live");
    }
    this.figures = [...element.querySelectorAll(".view")];
    this.flats = this.figures.map((figure) => figure.querySelector(".flat")).map((svg) => svg && new FlatView(svg, panel.bones));
    element.classList.add("plays");
    const player = new Player(element.querySelector(".player"), article.querySelector(".stage"), { changed: (tick) => this.show(tick) });
    this.player = player;
    this.figures.forEach((figure, index) => this.seekable(figure, clips[index]));
    player.go(0);
    this.stage?.draw();
  }

  seekable(figure, clip) {
    const line = figure.querySelector(".timeline svg");
    const seek = (event) => {
      const box = line.getBoundingClientRect();
      const part = Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1);
      const frame = Math.min(Math.floor(part * clip.frames), clip.frames - 1);
      this.player.pause();
      this.player.go(Math.min(Math.ceil((frame * this.player.rate) / clip.rate - 1e-6), this.player.last));
    };
    line?.addEventListener("pointerdown", (event) => {
      event.stopPropagation();
      line.setPointerCapture(event.pointerId);
      seek(event);
    });
    line?.addEventListener("pointermove", (event) => { if (event.buttons) { event.stopPropagation(); seek(event); } });
  }

  show(tick) {
    this.clips.forEach((clip, index) => {
      const frame = Math.min(Math.floor((tick * clip.rate) / this.player.rate + 1e-6), clip.frames - 1);
      const part = (values, axes) => values?.subarray(frame * clip.joints * axes, (frame + 1) * clip.joints * axes);
      const [truth, prediction, flat, hidden] = [part(clip.truth, 3), part(clip.prediction, 3), part(clip.flat, 2), part(clip.hidden, 1)];
      this.people?.get(clip)?.place({ truth, prediction });
      this.flats[index]?.show(flat, hidden);
      const head = this.figures[index].querySelector(".head");
      head?.setAttribute("d", `M${(((frame + 0.5) / clip.frames) * 1000).toFixed(1)} 0V100`);
      this.figures[index].querySelector(".now").textContent = this.words(frame, clip, truth, prediction, hidden);
    });
    this.stage?.request();
  }

  words(frame, clip, truth, prediction, hidden) {
    const words = [`frame ${(frame + 1).toLocaleString("en")} of ${clip.frames.toLocaleString("en")}`];
    const error = truth && prediction ? meanDistance(truth, prediction) : NaN;
    if (!Number.isNaN(error)) words.push(`mean distance ${error.toPrecision(3)} ${this.panel.unit}`.trim());
    const count = hidden ? hidden.reduce((sum, one) => sum + one, 0) : 0;
    if (count) words.push(count === clip.joints ? "hidden" : `${count} joint${count > 1 ? "s" : ""} not seen`);
    return words.join(", ");
  }
}

function meanDistance(one, other) {
  const distances = [];
  for (let at = 0; at < one.length; at += 3) distances.push(Math.hypot(...[0, 1, 2].map((axis) => one[at + axis] - other[at + axis])));
  const known = distances.filter((distance) => !Number.isNaN(distance));
  return known.length ? known.reduce((sum, distance) => sum + distance, 0) / known.length : NaN;
}

export function poseHook(panels) {
  return {
    player: (index) => ({ tick: panels[index].player.tick, last: panels[index].player.last, playing: panels[index].player.playing }),
  };
}
