// The 2D input of a clip in its SVG: bones between joints that were seen, dots on them, rings and broken lines where the network saw nothing.

export class FlatView {
  constructor(svg, bones) {
    this.bones = bones;
    this.svg = svg;
    this.paths = Object.fromEntries([...svg.querySelectorAll("path")].map((path) => [path.getAttribute("class"), path]));
  }

  // `places` in per mille of the picture; `hidden` has a number other than 0 for each joint that was not seen.
  show(places, hidden) {
    const parts = { m: "", l: "", r: "", broken: "", dots: "", rings: "" };
    const point = (joint) => `${places[2 * joint].toFixed(1)} ${places[2 * joint + 1].toFixed(1)}`;
    const known = (joint) => !Number.isNaN(places[2 * joint]);
    for (const [joint, parent, side] of this.bones) {
      if (!known(joint) || !known(parent)) continue;
      parts[hidden?.[joint] || hidden?.[parent] ? "broken" : "mlr"[side]] += `M${point(parent)}L${point(joint)}`;
    }
    for (let joint = 0; joint < places.length / 2; joint += 1) {
      if (!known(joint)) continue;
      if (hidden?.[joint]) parts.rings += `M${point(joint)}m-16 0a16 16 0 1 0 32 0a16 16 0 1 0-32 0`;
      else parts.dots += `M${point(joint)}h0`;
    }
    for (const [name, path] of Object.entries(this.paths)) path.setAttribute("d", parts[name] ?? "");
    this.svg.classList.toggle("blank", Boolean(hidden) && hidden.every(Boolean));
  }
}
