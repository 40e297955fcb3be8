// Interaction: opening units, sorting and filtering the table, keys.
// -------------------------------------------------------------- panels, table

function drawPanel(details) {
  const box = details.querySelector(".panel"), unit = Number(details.dataset.unit);
  if (box.childElementCount) return;
  if (DATA.units[unit].template === null) {
    box.append(figure("Template and amplitudes", missing("Not available in this result.")), trains(unit));
  } else {
    box.append(templateChart(unit), make("div", {}, amplitudeChart(unit), trains(unit)));
  }
  box.append(neighbours(unit), candidates(unit));
}

function trains(unit) {
  return make("div", { class: "trains" }, autocorrelogram(unit), intervalChart(unit));
}

function open(unit, isShown) {
  const details = document.getElementById("unit-" + unit);
  if (!details) return;
  details.hidden = false;
  details.open = true;
  drawPanel(details);
  if (isShown) {
    if (chosen !== unit) choose(unit);
    details.scrollIntoView();
    details.querySelector("summary").focus({ preventScroll: true });
  }
}

function openFromHash() {
  const found = /^#unit-(\d+)$/.exec(location.hash);
  if (found) open(Number(found[1]), true);
}

function value(row, column, kind) {
  const cell = row.children[column];
  if (kind === "word") return cell.textContent.trim();
  const number = parseFloat(cell.dataset.value);
  return isNaN(number) ? -Infinity : number;
}

function sortBy(header) {
  const kind = header.querySelector("button").dataset.kind;
  const now = header.getAttribute("aria-sort");
  // the first click on a column sorts numbers in descending order, words in ascending order
  const isDown = now === "none" ? kind === "number" : now === "ascending";
  const column = Array.from(header.parentElement.children).indexOf(header);
  const body = document.querySelector("#table tbody");
  const rows = Array.from(body.rows).map((row) => ({ row, key: value(row, column, kind) }));
  const compare = kind === "word" ? (a, b) => a.key.localeCompare(b.key, "en", { numeric: true }) : (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
  rows.sort((a, b) => (isDown ? compare(b, a) : compare(a, b)));
  body.append(...rows.map((each) => each.row));
  for (const other of header.parentElement.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
  header.setAttribute("aria-sort", isDown ? "descending" : "ascending");
}

function filter(wanted) {
  let shown = 0;
  for (const row of document.querySelectorAll("#table tbody tr")) {
    const words = Array.from(row.querySelectorAll(".flag, .badge")).map((each) => each.textContent.trim());
    row.hidden = Boolean(wanted) && !words.includes(wanted);
    document.getElementById("unit-" + row.dataset.unit).hidden = row.hidden;
    if (!row.hidden) shown += 1;
  }
  document.getElementById("shown").textContent = shown + " of " + DATA.units.length + " shown";
}

function step(by) {
  const all = Array.from(document.querySelectorAll(".unit:not([hidden])"));
  const here = all.indexOf(document.activeElement && document.activeElement.closest(".unit"));
  const next = all[here < 0 ? 0 : Math.min(all.length - 1, Math.max(0, here + by))];
  if (next) open(Number(next.dataset.unit), true);
}

function listen() {
  const panels = document.getElementById("panels");
  panels.addEventListener("toggle", (event) => event.target.open && event.target.matches(".unit") && drawPanel(event.target), true);
  document.addEventListener("click", (event) => {
    const link = event.target.closest('a[href^="#unit-"]');
    if (link && link.getAttribute("href") === location.hash) openFromHash(); // the hash does not change, so there is no event
  });
  window.addEventListener("hashchange", openFromHash);
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
    if (event.key === "j") step(1);
    if (event.key === "k") step(-1);
  });
  if (!DATA.units.length) return;
  listenToClusters();
  for (const header of document.querySelectorAll("#table thead [aria-sort]")) {
    header.querySelector("button").addEventListener("click", () => sortBy(header));
  }
  document.getElementById("filter").addEventListener("change", (event) => filter(event.target.value));
  const setAll = (isOpen) => document.querySelectorAll(".unit:not([hidden])").forEach((each) => { each.open = isOpen; if (isOpen) drawPanel(each); });
  document.getElementById("open-all").addEventListener("click", () => setAll(true));
  document.getElementById("close-all").addEventListener("click", () => setAll(false));
}

drawOverview();
listen();
if (location.hash) openFromHash();
else open(0, false); // as an example
