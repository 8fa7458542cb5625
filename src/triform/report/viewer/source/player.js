// The controls of a panel of clips: play, scrub, speed. One clock for all; it never starts by itself, and stops where nobody sees it.

export class Player {
  constructor(element, stage, { changed }) {
    Object.assign(this, { element, changed, tick: 0, playing: false, rate: Number(element.dataset.rate) });
    [this.button, this.slider, this.output, this.speed] = ["button", "input", "output", "select"].map((name) => element.querySelector(name));
    this.last = Number(this.slider.max);
    this.button.addEventListener("click", () => this.toggle());
    this.slider.addEventListener("input", () => { this.pause(); this.go(Number(this.slider.value)); });
    this.speed.addEventListener("change", () => this.anchor());
    stage.addEventListener("keydown", (event) => {
      const act = { " ": () => this.toggle(), ",": () => this.step(-1), ".": () => this.step(1) }[event.key];
      if (!act || event.target !== stage || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      act();
    });
    window.addEventListener("beforeprint", () => this.pause());
    document.addEventListener("visibilitychange", () => { if (document.hidden) this.pause(); });
    new IntersectionObserver((entries) => { if (!entries.at(-1).isIntersecting) this.pause(); }).observe(stage);
  }

  toggle() {
    if (this.playing) this.pause();
    else this.play();
  }

  play() {
    if (!this.last) return;
    if (this.tick >= this.last) this.go(0);
    this.set(true);
    this.anchor();
    requestAnimationFrame((now) => this.advance(now));
  }

  pause() {
    if (this.playing) this.set(false);
  }

  step(by) {
    this.pause();
    this.go(Math.min(Math.max(this.tick + by, 0), this.last));
  }

  // Whoever asked the system for less motion sees the clip once, all others until they pause it.
  advance(now) {
    if (!this.playing) return;
    this.start ??= now;
    const tick = this.from + Math.floor(((now - this.start) / 1000) * this.rate * Number(this.speed.value));
    const once = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (once && tick >= this.last) {
      this.go(this.last);
      this.pause();
      return;
    }
    const wrapped = tick % (this.last + 1);
    if (wrapped !== this.tick) this.go(wrapped);
    requestAnimationFrame((next) => this.advance(next));
  }

  // From here on the clock counts from the present frame: after a change of speed nothing jumps.
  anchor() {
    Object.assign(this, { from: this.tick, start: undefined });
  }

  go(tick) {
    this.tick = tick;
    this.slider.value = String(tick);
    const seconds = (tick / this.rate).toFixed(2);
    this.slider.setAttribute("aria-valuetext", `frame ${tick + 1}, ${seconds} seconds`);
    this.output.textContent = `${(tick + 1).toLocaleString("en")} / ${(this.last + 1).toLocaleString("en")} \u00b7 ${seconds} s`;
    this.changed(tick);
  }

  set(playing) {
    this.playing = playing;
    this.button.setAttribute("aria-pressed", String(playing));
    this.button.querySelector("span").textContent = playing ? "Pause" : "Play";
  }
}
