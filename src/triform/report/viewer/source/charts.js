// Read-outs of charts and maps: places come from the page in per mille of the plot, so no scale is computed twice.

export function startCharts(charts) {
  document.querySelectorAll("[data-chart]").forEach((figure, index) => startChart(figure, charts[index]));
}

export function startMaps(maps) {
  document.querySelectorAll("[data-map]").forEach((figure, index) => startMap(figure, maps[index]));
}

function startChart(figure, chart) {
  const plot = figure.querySelector(".plot");
  const cursor = plot.querySelector(".cursor");
  const tip = plot.querySelector(".tip");
  const stops = [...new Set(chart.series.flatMap((series) => series.x))].sort((a, b) => a - b);
  let at = -1;
  const show = (index) => {
    if (!stops.length) return;
    at = Math.min(Math.max(index, 0), stops.length - 1);
    const x = stops[at];
    const rows = chart.series
      .map((series, number) => ({ series, number, point: nearest(series.x, x) }))
      .filter(({ point }) => point >= 0);
    cursor.hidden = false;
    cursor.style.left = `${x / 10}%`;
    const closest = rows.reduce((best, row) => (distance(row, x) < distance(best, x) ? row : best));
    fillTip(tip, `${chart.x_label} ${closest.series.step[closest.point]}`, rows.map(({ series, number, point }) => {
      const away = series.step[point] !== closest.series.step[closest.point] ? ` (${series.step[point]})` : "";
      return { colour: `var(--c${number % 8})`, name: series.name + away, value: series.value[point] };
    }));
    placeTip(tip, plot, x, 0);
  };
  const hide = () => { cursor.hidden = tip.hidden = true; };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    show(nearest(stops, ((event.clientX - box.left) / box.width) * 1000));
  });
  plot.addEventListener("pointerleave", hide);
  figure.addEventListener("blur", hide);
  figure.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Escape") hide();
    if (!step) return;
    event.preventDefault();
    show(at < 0 && step < 0 ? stops.length - 1 : at + step);
  });
}

function startMap(figure, map) {
  const plot = figure.querySelector(".plot");
  const tip = plot.querySelector(".tip");
  const buttons = [...figure.querySelectorAll("button[data-group]")];
  const many = "many" in figure.dataset;
  let [chosen, shown] = [null, null];
  const dim = (group) => {
    if (group === shown) return;
    shown = group;
    figure.querySelectorAll("path[data-group]").forEach((path) => path.classList.toggle("dim", group !== null && path.dataset.group !== group));
  };
  plot.addEventListener("pointermove", (event) => {
    const box = plot.getBoundingClientRect();
    const x = event.clientX - box.left;
    const y = event.clientY - box.top;
    let best = -1;
    let least = 18 ** 2;
    map.x.forEach((_, index) => {
      const away = ((map.x[index] / 1000) * box.width - x) ** 2 + ((map.y[index] / 1000) * box.height - y) ** 2;
      if (away < least) [best, least] = [index, away];
    });
    // Where groups are too many to be told apart by looks alone, the one under the pointer stands out.
    if (many) dim(best < 0 ? chosen : String(map.group[best]));
    if (best < 0) { tip.hidden = true; return; }
    fillTip(tip, map.label[best], [{ colour: `var(--c${map.group[best] % 8})`, name: map.groups[map.group[best]], value: "" }]);
    placeTip(tip, plot, map.x[best], map.y[best]);
  });
  plot.addEventListener("pointerleave", () => { tip.hidden = true; dim(chosen); });
  for (const button of buttons) {
    button.addEventListener("click", () => {
      chosen = chosen === button.dataset.group ? null : button.dataset.group;
      buttons.forEach((other) => other.setAttribute("aria-pressed", String(other.dataset.group === chosen)));
      dim(chosen);
    });
  }
}

function nearest(sorted, x) {
  let [low, high] = [0, sorted.length - 1];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - sorted[low - 1] < sorted[low] - x ? low - 1 : Math.min(low, sorted.length - 1);
}

const distance = ({ series, point }, x) => Math.abs(series.x[point] - x);

function fillTip(tip, title, rows) {
  const head = document.createElement("b");
  head.textContent = title;
  tip.replaceChildren(head, ...rows.map(({ colour, name, value }) => {
    const row = document.createElement("p");
    row.style.setProperty("--c", colour);
    row.append(Object.assign(document.createElement("span"), { textContent: name }));
    row.append(Object.assign(document.createElement("em"), { textContent: value }));
    return row;
  }));
  tip.hidden = false;
}

function placeTip(tip, plot, x, y) {
  const flip = x > 500;
  tip.style.left = flip ? "auto" : `calc(${x / 10}% + 12px)`;
  tip.style.right = flip ? `calc(${100 - x / 10}% + 12px)` : "auto";
  tip.style.top = `clamp(0px, calc(${y / 10}% - 12px), ${Math.max(plot.clientHeight - tip.offsetHeight, 0)}px)`;
}
