// Clusters of spikes: peaks on two contacts, and the map of the embeddings. One unit may be highlighted.
// ----------------------------------------------------------------- clusters

let chosen = null; // index of the highlighted unit
let shownView = null; // unit whose view is drawn

function colorOf(unit) {
  return "var(--c" + DATA.units[unit].color + ")";
}

// Peaks of the drawn spikes of a unit on a contact; null where its template does not reach there.
function peaksOn(unit, contact) {
  const packed = DATA.clusters.units[unit], row = DATA.units[unit].template.channels.indexOf(contact);
  if (row < 0 || !packed.peaks) return null;
  packed.bytes = packed.bytes || decode(packed.peaks, Uint8Array);
  const from = row * packed.num_drawn;
  return Array.from(packed.bytes.subarray(from, from + packed.num_drawn), (step) => packed.low[row] + step * packed.step[row]);
}

// The highlighted unit is drawn last, on top of the others.
function inDrawingOrder(units) {
  return units.filter((unit) => unit !== chosen).concat(units.filter((unit) => unit === chosen));
}

function cloud(plot, unit, xs, ys) {
  let path = "";
  xs.forEach((value, index) => { path += "M" + plot.x(value) + " " + plot.y(ys[index]) + "h0"; });
  const kind = chosen === null ? "" : unit === chosen ? " chosen" : " faded";
  plot.svg.append(draw("path", { class: "cloud" + kind, style: "stroke:" + colorOf(unit), d: path, "data-unit": unit },
    draw("title", {}, "unit " + DATA.units[unit].id)));
}

function peakChart(units, first, second) {
  const names = [first, second].map((contact) => DATA.clusters.contacts[contact]);
  const found = units.map((unit) => ({ unit, xs: peaksOn(unit, first), ys: peaksOn(unit, second) })).filter((each) => each.xs && each.ys);
  // an artefact among the spikes does not press all others together: what is outside is drawn on the border
  const range = (key) => {
    const values = found.flatMap((each) => each[key]).sort((a, b) => a - b), at = (share) => values[Math.round(share * (values.length - 1))] || 0;
    const margin = 0.2 * (at(0.995) - at(0.005) || 1), [low, high] = extent(values);
    return [Math.max(low - 0.1 * margin, at(0.005) - margin), Math.min(high + 0.1 * margin, at(0.995) + margin)];
  };
  const within = (value, [low, high]) => Math.min(high, Math.max(low, value));
  const plot = makePlot("Peaks on contact " + names[0] + " against contact " + names[1], {
    width: 250, height: 220, left: 48, x: range("xs"), y: range("ys"),
    xLabel: "peak on " + names[0] + " (µV)", yLabel: "peak on " + names[1] + " (µV)",
  });
  for (const { unit, xs, ys } of found) cloud(plot, unit, xs.map((value) => within(value, plot.room.x)), ys.map((value) => within(value, plot.room.y)));
  addAxes(plot, { xTicks: 4, yTicks: 4 });
  return make("figure", {}, plot.svg);
}

function mapChart(map, units) {
  const points = decode(map.points, Uint16Array), clouds = {};
  let from = 0;
  for (const unit of map.units) {
    const to = from + 2 * DATA.clusters.units[unit].num_drawn, own = Array.from(points.subarray(from, to), (value) => value / 65535);
    clouds[unit] = { xs: own.filter((_, index) => index % 2 === 0), ys: own.filter((_, index) => index % 2 === 1) };
    from = to;
  }
  const plot = makePlot("Map of the embeddings", { width: 400, height: 400, left: 24, right: 8, bottom: 24, x: [-0.03, 1.03], y: [-0.03, 1.03], xLabel: "dimension 1", yLabel: "dimension 2" });
  for (const unit of units) cloud(plot, unit, clouds[unit].xs, clouds[unit].ys);
  addAxes(plot, { xTicks: 0, yTicks: 0 });
  const middle = (values) => values.slice().sort((a, b) => a - b)[Math.floor(values.length / 2)];
  placeLabels(plot, units.filter((unit) => clouds[unit].xs.length).reverse().map((unit) => ({
    x: plot.x(middle(clouds[unit].xs)), y: plot.y(middle(clouds[unit].ys)), text: DATA.units[unit].id, gap: 0, isOver: true,
  })), []);
  const means = map.units.length < 3 ? "Principal components" : "Linear discriminants";
  const isLarge = DATA.units[map.units[0]].template && DATA.units[map.units[0]].template.channels.length > 15;
  return figure("Embedding map", plot.svg, means + " of the embeddings of these units, computed from the drawn spikes." + (isLarge ? " Embeddings around different contacts are apart for that reason, too." : ""));
}

function unitKeys(units) {
  const box = make("p", { class: "keys" });
  for (const unit of units) {
    const key = make("button", { type: "button", "data-unit": unit, "aria-pressed": String(unit === chosen) },
      make("span", { class: "swatch", style: "background:" + colorOf(unit) }), DATA.units[unit].id);
    box.append(key);
  }
  return box;
}

function drawClusters() {
  const box = document.getElementById("cluster-charts");
  if (!box || shownView === null) return;
  const view = DATA.clusters.views[shownView], map = DATA.clusters.maps[view.map], units = inDrawingOrder(map.units);
  const pairs = view.contacts.flatMap((first, index) => view.contacts.slice(index + 1).map((second) => [first, second]));
  const isMeasured = DATA.clusters.units.some((each) => each.peaks);
  const peaks = make("div", {}, make("h4", {}, "Peaks on pairs of contacts"));
  if (!isMeasured) peaks.append(missing("Not available in this result."));
  else if (!pairs.length) peaks.append(missing("There is only one contact."));
  else peaks.append(make("div", { class: "pairs" }, ...pairs.map((pair) => peakChart(units, pair[0], pair[1]))));
  const num = units.reduce((sum, unit) => sum + DATA.clusters.units[unit].num_drawn, 0);
  peaks.append(make("figcaption", {}, num.toLocaleString("en") + " spikes drawn at random; peaks in the direction of the peak of their unit."));
  box.replaceChildren(mapChart(map, units), peaks);
  const all = map.units.length === DATA.units.length ? "All units" : "Unit " + DATA.units[chosen === null ? shownView : chosen].id + " and the units near it";
  document.getElementById("cluster-keys").replaceChildren(all + ": ", unitKeys(map.units));
}

// Highlight a unit in the table, on the probe and among the clusters; null: none.
function choose(unit) {
  chosen = unit === chosen ? null : unit;
  if (chosen !== null) {
    const together = shownView === null ? [] : DATA.clusters.maps[DATA.clusters.views[shownView].map].units;
    const isShared = DATA.clusters.views[chosen].map === (shownView === null ? -1 : DATA.clusters.views[shownView].map);
    if (!isShared || !together.includes(chosen)) shownView = chosen;
  }
  for (const each of document.querySelectorAll("#table tbody tr, .unit-marker, .unit-line")) {
    const isOwn = chosen !== null && Number(each.dataset.unit) === chosen;
    each.classList.toggle("chosen", isOwn);
    if (each.matches("tr")) each.toggleAttribute("aria-current", isOwn);
    else each.classList.toggle("faded", chosen !== null && !isOwn);
  }
  document.getElementById("highlight").value = chosen === null ? "" : String(chosen);
  drawClusters();
}

function listenToClusters() {
  const select = document.getElementById("highlight");
  DATA.units.forEach((unit, index) => select.append(make("option", { value: index }, unit.id)));
  select.addEventListener("change", () => choose(select.value === "" ? null : Number(select.value)));
  document.getElementById("clusters").addEventListener("click", (event) => {
    const mark = event.target.closest("[data-unit]");
    if (!mark) return;
    const unit = Number(mark.dataset.unit), isKey = mark.matches("button");
    choose(unit);
    if (isKey) document.querySelector('#cluster-keys [data-unit="' + unit + '"]').focus({ preventScroll: true }); // it was drawn anew
  });
  document.querySelector("#table tbody").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a") && !String(getSelection())) choose(Number(row.dataset.unit));
  });
  shownView = 0;
  drawClusters();
}
