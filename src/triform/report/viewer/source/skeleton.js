// A person in 3D: slim rods for what was predicted inside broad pale ones for what is true, over a ground grid with an arrow that points up.
import {
  BufferAttribute, BufferGeometry, CylinderGeometry, DynamicDrawUsage, InstancedBufferAttribute, InstancedMesh, LessEqualDepth, LineSegments,
  Matrix4, Quaternion, Scene, ShaderMaterial, SphereGeometry, Vector3,
} from "three";

const ROD_VERTEX = `
  varying vec3 shade, facing;
  void main() {
    gl_Position = projectionMatrix * modelViewMatrix * instanceMatrix * vec4(position, 1.0);
    facing = normalMatrix * mat3(instanceMatrix) * normal;
    shade = instanceColor;
  }`;
// The light stands beside the camera, as for meshes (stage.js).
const ROD_FRAGMENT = `
  uniform float opacity;
  varying vec3 shade, facing;
  void main() {
    float lit = 0.54 + 0.50 * max(dot(normalize(facing), vec3(-0.3, 0.5, 0.8124)), 0.0);
    gl_FragColor = vec4(min(shade * lit, 1.0), opacity);
  }`;
const LINE_VERTEX = `
  uniform float reach;
  attribute float fades;
  varying float strength;
  void main() {
    gl_Position = projectionMatrix * modelViewMatrix * vec4(position, 1.0);
    strength = mix(1.0, smoothstep(1.0, 0.35, length(position.xy) / reach), fades);
  }`;
const LINE_FRAGMENT = `
  uniform vec3 colour;
  varying float strength;
  void main() { gl_FragColor = vec4(colour, 0.75 * strength); }`;

const ABOVE = new Vector3(0, 1, 0);
const HALO = { rod: 2.1, joint: 1.25, opacity: 0.48 };
const CORE = { rod: 1, joint: 1.55, opacity: 1 };

class Person {
  constructor(bones, joints, rod, look) {
    Object.assign(this, { bones, radius: rod * look.rod, joint: rod * look.rod * look.joint });
    const passes = look.opacity < 1 ? [{ colorWrite: false, order: 1 }, { colorWrite: true, order: 2 }] : [{ colorWrite: true, order: 0 }];
    const rods = new CylinderGeometry(1, 1, 1, 14, 1, true);
    const balls = new SphereGeometry(1, 16, 12);
    this.meshes = passes.flatMap(({ colorWrite, order }) => [[rods, bones.length], [balls, joints]].map(([geometry, count]) => {
      const material = new ShaderMaterial({
        vertexShader: ROD_VERTEX, fragmentShader: ROD_FRAGMENT, uniforms: { opacity: { value: look.opacity } },
        transparent: look.opacity < 1, colorWrite, depthFunc: LessEqualDepth,
      });
      const mesh = new InstancedMesh(geometry, material, count);
      mesh.instanceMatrix.setUsage(DynamicDrawUsage);
      mesh.instanceColor = new InstancedBufferAttribute(new Float32Array(3 * count), 3);
      return Object.assign(mesh, { renderOrder: order, frustumCulled: false });
    }));
  }

  place(points) {
    const [one, other, middle, along, size] = [0, 1, 2, 3, 4].map(() => new Vector3());
    const [turn, matrix] = [new Quaternion(), new Matrix4()];
    const put = (at, index, known) => {
      if (!known) matrix.makeScale(0, 0, 0);
      for (const mesh of this.meshes.filter((_, number) => number % 2 === at)) mesh.setMatrixAt(index, matrix);
    };
    this.bones.forEach(([joint, parent], index) => {
      one.fromArray(points, 3 * joint);
      other.fromArray(points, 3 * parent);
      const length = along.subVectors(one, other).length();
      turn.setFromUnitVectors(ABOVE, length ? along.divideScalar(length) : ABOVE);
      matrix.compose(middle.addVectors(one, other).multiplyScalar(0.5), turn, size.set(this.radius, length, this.radius));
      put(0, index, length > 0);
    });
    for (let joint = 0; joint < points.length / 3; joint += 1) {
      one.fromArray(points, 3 * joint);
      matrix.compose(one, turn.identity(), size.setScalar(this.joint));
      put(1, joint, !Number.isNaN(one.x));
    }
    for (const mesh of this.meshes) mesh.instanceMatrix.needsUpdate = true;
  }

  // `tints` are the colours of the middle, the left and the right.
  paint(tints, joints) {
    const sides = [this.bones.map((bone) => bone[2]), joints];
    this.meshes.forEach((mesh, number) => {
      sides[number % 2].forEach((side, index) => mesh.instanceColor.array.set(tints[side], 3 * index));
      mesh.instanceColor.needsUpdate = true;
    });
  }
}

export class PersonScene {
  constructor({ bones, joints, rod, frame }, ground, { truth, prediction }) {
    this.sides = Array.from({ length: joints }, (_, joint) => bones.find((bone) => bone[0] === joint)?.[2] ?? 0);
    this.scene = new Scene();
    this.lines = groundLines(frame, ground);
    this.truth = truth && new Person(bones, joints, rod, HALO);
    this.prediction = prediction && new Person(bones, joints, rod, CORE);
    this.scene.add(this.lines, ...(this.prediction?.meshes ?? []), ...(this.truth?.meshes ?? []));
  }

  place({ truth, prediction }) {
    this.truth?.place(truth);
    this.prediction?.place(prediction);
  }

  paint({ sides, veil, line }) {
    const pale = sides.map((side) => side.map((value, channel) => 0.4 * value + 0.6 * veil[channel]));
    this.truth?.paint(pale, this.sides);
    this.prediction?.paint(sides, this.sides);
    this.lines.material.uniforms.colour.value.set(...line);
  }
}

// Squares of a round size about the middle, fading outward, and at their edge the arrow.
function groundLines({ radius, half_height }, ground) {
  const reach = 1.25 * Math.max(radius, 0.6 * half_height);
  const step = roundStep(reach / 3);
  const places = [];
  const fades = [];
  const line = (from, to, fading) => { places.push(...from, ...to); fades.push(fading, fading); };
  const count = Math.floor(reach / step);
  for (let at = -count; at <= count; at += 1) {
    const end = Math.sqrt(Math.max(reach ** 2 - (at * step) ** 2, 0));
    for (let part = -12; part < 12; part += 1) {
      const [a, b] = [(part / 12) * end, ((part + 1) / 12) * end];
      line([at * step, a, ground], [at * step, b, ground], 1);
      line([a, at * step, ground], [b, at * step, ground], 1);
    }
  }
  const [x, y, top, head] = [-0.55 * reach, -0.55 * reach, ground + 0.45 * half_height, 0.09 * half_height];
  line([x, y, ground], [x, y, top], 0);
  for (const [dx, dy] of [[1, 0], [-1, 0], [0, 1], [0, -1]]) line([x, y, top], [x + 0.5 * head * dx, y + 0.5 * head * dy, top - head], 0);
  const geometry = new BufferGeometry();
  geometry.setAttribute("position", new BufferAttribute(new Float32Array(places), 3));
  geometry.setAttribute("fades", new BufferAttribute(new Float32Array(fades), 1));
  const uniforms = { colour: { value: new Vector3() }, reach: { value: reach } };
  const material = new ShaderMaterial({ vertexShader: LINE_VERTEX, fragmentShader: LINE_FRAGMENT, uniforms, transparent: true, depthWrite: false });
  return Object.assign(new LineSegments(geometry, material), { frustumCulled: false });
}

function roundStep(size) {
  const power = 10 ** Math.floor(Math.log10(size));
  return power * [5, 2, 1].find((factor) => factor * power <= size * 1.001);
}
