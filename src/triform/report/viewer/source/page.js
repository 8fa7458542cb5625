// Navigation that knows where the reader is, and tables that sort.

export function startNavigation() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const visible = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const entry of entries) visible[entry.isIntersecting ? "add" : "delete"](entry.target.id);
    const current = [...links.keys()].find((id) => visible.has(id));
    for (const [id, link] of links) link.setAttribute("aria-current", String(id === current));
  }, { rootMargin: "-10% 0px -55% 0px" });
  document.querySelectorAll("section.panel").forEach((section) => observer.observe(section));
}

export function startTables() {
  for (const table of document.querySelectorAll("table[data-sortable]")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => sort(table, heads, column)));
  }
}

function sort(table, heads, column) {
  const descending = heads[column].ariaSort === "ascending";
  const body = table.tBodies[0];
  const numeric = heads[column].classList.contains("number");
  const key = (row) => {
    const cell = row.cells[column];
    if (!numeric) return cell.textContent;
    return cell.dataset.value === undefined ? NaN : Number(cell.dataset.value.replace("inf", "Infinity"));
  };
  const rows = [...body.rows].map((row) => [key(row), row]);
  rows.sort(([a], [b]) => {
    if (!numeric) return (descending ? -1 : 1) * a.localeCompare(b, undefined, { numeric: true });
    if (Number.isNaN(a) || Number.isNaN(b)) return Number.isNaN(a) - Number.isNaN(b);
    return descending ? b - a : a - b;
  });
  body.append(...rows.map(([, row]) => row));
  heads.forEach((head, at) => head.setAttribute("aria-sort", at !== column ? "none" : descending ? "descending" : "ascending"));
}
