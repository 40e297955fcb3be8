// The figures of the whole sorting.
// ----------------------------------------------------------------- overview

// Many units along a long probe need room for their names.
function overviewHeight() {
  return Math.max(400, Math.min(900, 130 + 5 * DATA.units.length));
}

function probeChart() {
  const probe = DATA.overview.probe;
  const offsets = groupOffsets(probe);
  const contactX = probe.contacts.map((each, row) => each[0] + offsets[probe.groups[row]]);
  const unitGroup = DATA.units.map((unit) => probe.groups[unit.template.channels[0]]);
  const [left, right] = extent(contactX), [low, high] = extent(probe.contacts.map((each) => each[1]));
  const marginX = (right - left || 40) * 0.12, marginY = (high - low || 40) * 0.08;
  const plot = makePlot("Units on the probe", {
    height: overviewHeight(), left: 54, x: [left - marginX, right + marginX], y: [low - marginY, high + marginY], xLabel: "across (µm)", yLabel: "depth (µm)",
  });
  addAxes(plot, { xTicks: offsets.some((each) => each) ? 0 : 4, yTicks: 8 });
  probe.contacts.forEach((contact, row) => {
    plot.svg.append(draw("rect", { class: "contact", x: plot.x(contactX[row]) - 2.5, y: plot.y(contact[1]) - 2.5, width: 5, height: 5 }));
  });
  const sizes = DATA.units.map((unit) => Math.abs(unit.template.uv));
  const largest = Math.max(...sizes), marks = [];
  DATA.overview.probe.units.forEach((position, unit) => {
    const r = 3.5 + 5 * Math.sqrt(sizes[unit] / largest);
    const x = plot.x(position[0] + offsets[unitGroup[unit]]), y = plot.y(position[1]), kind = quality(unit);
    const shape = kind === "good" ? draw("circle", { cx: x, cy: y, r }) : draw("path", { d: "M" + x + " " + (y - r) + "L" + (x + r) + " " + (y + r) + "H" + (x - r) + "Z" });
    fill(shape, { class: "unit-marker " + kind, "data-unit": unit, style: "--color:" + colorOf(unit) }, [draw("title", {}, "unit " + DATA.units[unit].id)]);
    plot.svg.append(shape);
    marks.push({ x, y, text: DATA.units[unit].id, gap: r, size: sizes[unit] });
  });
  // where not all labels find a place, the largest units have one
  placeLabels(plot, marks.slice().sort((a, b) => b.size - a.size), marks.map((each) => [each.x - each.gap, each.y - each.gap, 2 * each.gap, 2 * each.gap]));
  return figure("Units on the probe", plot.svg, "Filled circles: good; open triangles: others; size: template amplitude; colours tell neighbours apart. Grey squares: contacts. The scales across and along the probe differ.");
}

// Channel groups whose contacts overlap are drawn side by side.
function groupOffsets(probe) {
  const boxes = [];
  probe.contacts.forEach((contact, row) => {
    const box = boxes[probe.groups[row]] || (boxes[probe.groups[row]] = [Infinity, -Infinity]);
    box[0] = Math.min(box[0], contact[0]);
    box[1] = Math.max(box[1], contact[0]);
  });
  let end = -Infinity;
  return boxes.map((box) => {
    const offset = end > -Infinity && box[0] <= end ? end + 40 - box[0] : 0;
    end = box[1] + offset;
    return offset;
  });
}

function rasterChart() {
  const rates = DATA.overview.rates, order = DATA.overview.order;
  const values = decode(rates.values, Uint8Array);
  const time = timeUnit(), isNamed = order.length <= 40;
  const longest = isNamed ? Math.max(...DATA.units.map((unit) => unit.id.length)) : 3;
  const height = Math.max(150, order.length * (isNamed ? 13 : Math.max(1.2, 400 / order.length))) + 44;
  const plot = makePlot("Firing rates", {
    width: WIDE_PX, height, left: 26 + Math.min(120, longest * LETTER_PX), x: [timeAt(0), timeAt(1)], y: [order.length, 0],
    xLabel: "time (" + time.name + ")", yLabel: DATA.overview.probe ? "units by depth" : "units",
  });
  const canvas = make("canvas", { width: rates.num_bins, height: order.length });
  const context = canvas.getContext("2d"), image = context.createImageData(rates.num_bins, order.length);
  order.forEach((unit, row) => {
    for (let bin = 0; bin < rates.num_bins; bin++) {
      const at = 4 * (row * rates.num_bins + bin);
      image.data.set([31, 134, 196, values[unit * rates.num_bins + bin]], at); // between the blues of both themes
    }
  });
  context.putImageData(image, 0, 0);
  const { inner } = plot;
  plot.svg.append(draw("image", { href: canvas.toDataURL(), x: inner.x0, y: inner.y1, width: inner.x1 - inner.x0, height: inner.y0 - inner.y1, preserveAspectRatio: "none" }));
  addSegments(plot);
  addAxes(plot, { isTime: true, xTicks: 8, yTicks: 0 });
  if (isNamed) {
    order.forEach((unit, row) => {
      plot.svg.append(draw("text", { x: inner.x0 - 6, y: plot.y(row + 0.5) + 4, "text-anchor": "end" }, DATA.units[unit].id.slice(0, 20)));
    });
  }
  const result = figure("Firing rates", plot.svg,
    "Darker: higher firing rate, in bins of " + (rates.bin_s < 1 ? Math.round(1000 * rates.bin_s) + " ms" : short(rates.bin_s) + " s") + ", relative to the largest rate of each unit" + (AXIS.starts_s.length ? "; dashed lines: segments." : "."));
  result.classList.add("span");
  return result;
}

function driftChart() {
  const drift = DATA.overview.drift;
  const times = decode(drift.times, Uint16Array), depths = decode(drift.depths, Int16Array), sizes = decode(drift.sizes, Uint8Array);
  const time = timeUnit();
  const [low, high] = extent(depths);
  const plot = makePlot("Depth of spikes over time", {
    width: MIDDLE_PX, height: overviewHeight(), left: 54, x: [timeAt(0), timeAt(1)], y: [low * drift.um - 10, high * drift.um + 10], xLabel: "time (" + time.name + ")", yLabel: "depth (µm)",
  });
  const paths = ["", "", "", ""];
  for (let index = 0; index < times.length; index++) {
    paths[sizes[index]] += "M" + plot.x(timeAt(times[index] / 65535)) + " " + plot.y(depths[index] * drift.um) + "h0";
  }
  addSegments(plot);
  paths.forEach((path, size) => {
    plot.svg.append(draw("path", { class: "dots", d: path, style: "stroke-width:" + (1.2 + 0.5 * size) + ";opacity:" + (0.2 + 0.2 * size) }));
  });
  let motion = "";
  if (drift.motion_line) {
    const middle = ((low + high) / 2) * drift.um;
    drift.motion_line.forEach((value, bin) => {
      if (value !== null) motion += (motion ? "L" : "M") + plot.x(timeAt((bin + 0.5) / drift.motion_line.length)) + " " + plot.y(middle + value);
    });
    plot.svg.append(draw("path", { class: "motion", d: motion }));
  }
  addAxes(plot, { isTime: true, xTicks: 8, yTicks: 8 });
  const correction = drift.motion_line ? "The line is the estimated probe movement (range " + drift.motion_range_um + " µm), which was corrected before sorting." : "Motion was not corrected.";
  return figure("Drift", plot.svg, drift.num_shown.toLocaleString("en") + " spikes at their depth before motion correction; darker: larger amplitude. " + correction);
}

// For probes that are too short to show drift as a change of depth.
function trendChart() {
  const lines = DATA.overview.trend;
  const time = timeUnit();
  const [low, high] = extent(lines.flat().filter((value) => value !== null));
  const plot = makePlot("Amplitude of the units over time", {
    width: MIDDLE_PX, height: 400, left: 54, x: [timeAt(0), timeAt(1)], y: [Math.min(0.5, low - 0.05), Math.max(1.5, high + 0.05)],
    xLabel: "time (" + time.name + ")", yLabel: "amplitude / median of the unit",
  });
  addSegments(plot);
  const pathOf = (line) => {
    let path = "", isDown = false;
    line.forEach((value, bin) => {
      if (value !== null) path += (isDown ? "L" : "M") + plot.x(timeAt((bin + 0.5) / line.length)) + " " + plot.y(value);
      isDown = value !== null;
    });
    return path;
  };
  lines.forEach((line, unit) => {
    plot.svg.append(draw("path", { class: "trace unit-line", "data-unit": unit, style: "stroke:" + colorOf(unit), d: pathOf(line) }, draw("title", {}, "unit " + DATA.units[unit].id)));
  });
  const middle = lines[0].map((_, bin) => {
    const here = lines.map((line) => line[bin]).filter((value) => value !== null).sort((a, b) => a - b);
    return here.length ? here[Math.floor(here.length / 2)] : null;
  });
  plot.svg.append(draw("path", { class: "motion", d: pathOf(middle) }));
  addAxes(plot, { isTime: true, xTicks: 8, yTicks: 8 });
  return figure("Drift", plot.svg, "Amplitude of each unit over time (thin lines) and the median of all units (thick line). This probe is too short to show drift as a change of depth; drift changes the amplitudes.");
}

function drawOverview() {
  const box = document.getElementById("charts");
  if (!DATA.units.length) {
    box.append(missing("No units."));
    return;
  }
  const first = make("div", { class: "span overview" });
  if (DATA.overview.probe) {
    first.append(probeChart());
    if (DATA.overview.drift) first.append(driftChart());
    else first.append(trendChart());
  }
  box.append(first, rasterChart());
  box.addEventListener("click", (event) => {
    const marker = event.target.closest("[data-unit]");
    if (marker) open(Number(marker.dataset.unit), true);
  });
}
