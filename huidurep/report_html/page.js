"use strict";
(function () {
  const DATA = JSON.parse(document.getElementById("data").textContent);
  const AXIS = DATA.axis;
  const LETTER_PX = 6.6; // width of a letter at 11 px, to leave room for labels
  // Letters keep their size: pictures are drawn as wide as the page shows them, within what print can still shrink.
  const WIDE_PX = Math.max(330, Math.min(900, document.querySelector("main").clientWidth));
  const MIDDLE_PX = Math.min(760, WIDE_PX);

  // ---------------------------------------------------------------- elements

  function make(name, attributes, ...children) {
    return fill(document.createElement(name), attributes, children);
  }

  function draw(name, attributes, ...children) {
    return fill(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
  }

  function fill(element, attributes, children) {
    for (const name in attributes || {}) element.setAttribute(name, attributes[name]);
    for (const child of children) element.append(child);
    return element;
  }

  function figure(title, chart, caption) {
    const parts = [make("h4", {}, title), chart];
    if (caption) parts.push(make("figcaption", {}, ...[].concat(caption)));
    return make("figure", {}, ...parts);
  }

  function missing(what) {
    return make("p", { class: "hint" }, what);
  }

  function unitLink(unit) {
    return make("a", { href: "#unit-" + unit }, DATA.units[unit].id);
  }

  function quality(unit) {
    const badge = document.querySelector("#unit-" + unit + " .badge");
    return badge && badge.classList.contains("good") ? "good" : "mua";
  }

  // ----------------------------------------------------------------- numbers

  function decode(text, ArrayType) {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return new ArrayType(bytes.buffer);
  }

  function extent(values) {
    let low = Infinity, high = -Infinity;
    for (const value of values) {
      if (value < low) low = value;
      if (value > high) high = value;
    }
    return low > high ? [0, 1] : [low, high];
  }

  function ticks(low, high, wanted) {
    const rough = (high - low) / wanted || 1;
    const power = Math.pow(10, Math.floor(Math.log10(rough)));
    const step = [1, 2, 5, 10].map((each) => each * power).find((each) => each >= rough * 0.999);
    const found = [];
    for (let value = Math.ceil(low / step - 1e-9) * step; value <= high + step * 1e-6; value += step) {
      found.push(Math.abs(value) < step * 1e-6 ? 0 : value);
    }
    return found;
  }

  function short(value) {
    return String(parseFloat(value.toPrecision(4)));
  }

  function round(value) {
    return Math.round(value * 10) / 10;
  }

  // Time in the unit that reads best.
  function timeUnit() {
    if (AXIS.total_s < 300) return { name: "s", seconds: 1 };
    return AXIS.total_s < 7200 ? { name: "min", seconds: 60 } : { name: "h", seconds: 3600 };
  }

  // -------------------------------------------------------------- coordinates

  // A picture with axes; options: width, height, left, right, top, bottom (room around), x and y (ranges), xLabel, yLabel
  function makePlot(label, options) {
    const room = Object.assign({ width: 360, height: 210, left: 46, right: 10, top: 8, bottom: 36 }, options);
    const svg = draw("svg", { class: "chart", viewBox: "0 0 " + room.width + " " + room.height, role: "img", "aria-label": label });
    const inner = { x0: room.left, x1: room.width - room.right, y0: room.height - room.bottom, y1: room.top };
    const x = (value) => round(inner.x0 + ((value - room.x[0]) / (room.x[1] - room.x[0] || 1)) * (inner.x1 - inner.x0));
    const y = (value) => round(inner.y0 - ((value - room.y[0]) / (room.y[1] - room.y[0] || 1)) * (inner.y0 - inner.y1));
    return { svg, inner, x, y, room };
  }

  function addAxes(plot, settings) {
    const { svg, inner, x, y, room } = plot;
    const chosen = Object.assign({ xTicks: 5, yTicks: 4 }, settings);
    svg.append(draw("path", { class: "axis", d: "M" + inner.x0 + " " + inner.y1 + "V" + inner.y0 + "H" + inner.x1 }));
    if (chosen.xTicks) {
      for (const value of ticks(room.x[0], room.x[1], chosen.xTicks)) {
        svg.append(draw("path", { class: "axis", d: "M" + x(value) + " " + inner.y0 + "v4" }));
        svg.append(draw("text", { x: x(value), y: inner.y0 + 15, "text-anchor": "middle" }, short(value)));
      }
    }
    if (chosen.yTicks) {
      for (const value of ticks(room.y[0], room.y[1], chosen.yTicks).filter((each) => !chosen.isCount || Number.isInteger(each))) {
        svg.append(draw("path", { class: "axis", d: "M" + inner.x0 + " " + y(value) + "h-4" }));
        svg.append(draw("text", { x: inner.x0 - 7, y: y(value) + 4, "text-anchor": "end" }, short(value)));
      }
    }
    if (room.xLabel) {
      svg.append(draw("text", { x: (inner.x0 + inner.x1) / 2, y: room.height - 4, "text-anchor": "middle" }, room.xLabel));
    }
    if (room.yLabel) {
      const middle = (inner.y0 + inner.y1) / 2;
      svg.append(draw("text", { x: 11, y: middle, "text-anchor": "middle", transform: "rotate(-90 11 " + middle + ")" }, room.yLabel));
    }
  }

  function addSegments(plot, unit) {
    for (const start of AXIS.starts_s) {
      plot.svg.append(draw("path", { class: "grid-line", d: "M" + plot.x(start / unit.seconds) + " " + plot.inner.y1 + "V" + plot.inner.y0 }));
    }
  }

  // ------------------------------------------------------------- the pictures

  function spacing(values) {
    const sorted = Array.from(new Set(values)).sort((a, b) => a - b);
    let smallest = Infinity;
    for (let index = 1; index < sorted.length; index++) {
      const gap = sorted[index] - sorted[index - 1];
      if (gap > 1e-3 && gap < smallest) smallest = gap;
    }
    return isFinite(smallest) ? smallest : 20;
  }

  function templateChart(unit) {
    const template = DATA.units[unit].template;
    const contacts = template.channels.map((channel) => DATA.overview.probe.contacts[channel]);
    const values = decode(template.values, Int16Array);
    const n = template.num_samples;
    const xs = contacts.map((each) => each[0]), ys = contacts.map((each) => each[1]);
    const stepX = spacing(xs), stepY = spacing(ys);
    const [left, right] = extent(xs), [low, high] = extent(ys);
    const height = Math.min(440, Math.max(210, ((high - low) / stepY + 1) * 46 + 20));
    const plot = makePlot("Mean waveform of unit " + DATA.units[unit].id + " at the contacts of the probe", {
      height, left: 8, right: 8, top: 14, bottom: 30,
      x: [left - stepX * 0.55, right + stepX * 0.55], y: [low - stepY * 0.6, high + stepY * 0.6],
    });
    const [lowest, highest] = extent(values);
    const tall = stepY * (new Set(ys).size > 4 ? 1.6 : 0.95); // many rows are low: large waveforms may overlap
    const scale = tall / (highest - lowest || 1);
    contacts.forEach((contact, row) => {
      plot.svg.append(draw("circle", { class: "contact", cx: plot.x(contact[0]), cy: plot.y(contact[1]), r: 2.6 }));
      let path = "";
      for (let sample = 0; sample < n; sample++) {
        const x = contact[0] + (sample / (n - 1) - 0.5) * 0.86 * stepX;
        path += (sample ? "L" : "M") + plot.x(x) + " " + plot.y(contact[1] + values[row * n + sample] * scale);
      }
      plot.svg.append(draw("path", { class: row ? "trace" : "trace main", d: path }));
    });
    addScale(plot, template, stepX, tall, (highest - lowest || 1) * template.uv);
    return figure("Template on the probe", plot.svg, "Mean waveform at the " + contacts.length + " nearest contacts (dots); the main one is bold.");
  }

  function addScale(plot, template, stepX, tall, spanUv) {
    const power = Math.pow(10, Math.floor(Math.log10(spanUv * 0.6)));
    const uv = [5, 2, 1].map((each) => each * power).find((each) => each <= spanUv * 0.6) || power;
    const height = Math.abs(plot.y(0) - plot.y((tall * uv) / spanUv));
    const ms = 1 / (template.end_ms - template.start_ms);
    const width = Math.abs(plot.x(0) - plot.x(0.86 * stepX * ms));
    const x = plot.inner.x0 + 4, y = plot.room.height - 6;
    plot.svg.append(draw("path", { class: "axis", d: "M" + x + " " + (y - Math.min(height, 60)) + "V" + y + "h" + round(width) }));
    plot.svg.append(draw("text", { x: x + 6, y: y - 6 }, short(uv * Math.min(height, 60) / height) + " µV, 1 ms"));
  }

  function correlogramChart(label, counts, size) {
    const half = counts.length / 2, reach = half * DATA.bin_ms;
    const most = extent(counts)[1], near = 1.5;
    const plot = makePlot(label, Object.assign({ x: [-reach, reach], y: [0, most * 1.05 || 1], xLabel: "lag (ms)", yLabel: "spikes" }, size));
    plot.svg.append(draw("rect", { class: "band", x: plot.x(-near), y: plot.inner.y1, width: plot.x(near) - plot.x(-near), height: plot.inner.y0 - plot.inner.y1 }));
    let path = "";
    counts.forEach((count, bin) => {
      const from = plot.x((bin - half) * DATA.bin_ms), to = plot.x((bin - half + 1) * DATA.bin_ms);
      if (count) path += "M" + from + " " + plot.inner.y0 + "V" + plot.y(count) + "H" + round(to + 0.1) + "V" + plot.inner.y0 + "Z";
    });
    plot.svg.append(draw("path", { class: "bars", d: path }));
    addAxes(plot, { isCount: true });
    return plot.svg;
  }

  function autocorrelogram(unit) {
    const half = DATA.units[unit].acg;
    const counts = half.slice().reverse().concat(half);
    return figure("Autocorrelogram", correlogramChart("Autocorrelogram of unit " + DATA.units[unit].id, counts, { width: MIDDLE_PX, height: 170 }),
      "Lags between its own spikes. A neuron leaves the shaded 1.5 ms on either side empty.");
  }

  function amplitudeChart(unit) {
    const packed = DATA.units[unit].amplitudes;
    const times = decode(packed.times, Uint16Array), values = decode(packed.values, Int16Array);
    const time = timeUnit(), total = AXIS.total_s / time.seconds;
    const [low, high] = extent(values);
    const margin = 0.06 * (high - low || 1);
    const plot = makePlot("Amplitude over time of unit " + DATA.units[unit].id, {
      width: MIDDLE_PX, height: 200, right: 84, x: [0, total],
      y: [(low - margin) * packed.uv, (high + margin) * packed.uv], xLabel: "time (" + time.name + ")", yLabel: "amplitude (µV)",
    });
    let path = "";
    for (let index = 0; index < times.length; index++) {
      path += "M" + plot.x((times[index] / 65535) * total) + " " + plot.y(values[index] * packed.uv) + "h0";
    }
    addSegments(plot, time);
    plot.svg.append(draw("path", { class: "dots", d: path }));
    addAxes(plot, { xTicks: 8 });
    addHistogram(plot, values, packed.uv);
    const shown = packed.num_shown < numSpikes(unit) ? packed.num_shown + " spikes, drawn at random" : "every spike";
    return figure("Amplitude over time", plot.svg,
      "Filtered trace at the peak, " + shown + "; on the right how they are distributed. A slope is drift, a cut edge means that smaller spikes were missed.");
  }

  function numSpikes(unit) {
    const cell = document.querySelector('#table tr[data-unit="' + unit + '"] td.number');
    return cell ? Number(cell.dataset.value) : 0;
  }

  function addHistogram(plot, values, uv) {
    const bins = 30, counts = new Array(bins).fill(0);
    const [low, high] = plot.room.y;
    for (const value of values) counts[Math.min(bins - 1, Math.floor(((value * uv - low) / (high - low)) * bins))] += 1;
    const most = Math.max(...counts), x0 = plot.inner.x1 + 8;
    let path = "";
    counts.forEach((count, bin) => {
      const from = plot.y(low + (bin / bins) * (high - low)), to = plot.y(low + ((bin + 1) / bins) * (high - low));
      if (count) path += "M" + x0 + " " + from + "H" + round(x0 + (count / most) * 66) + "V" + to + "H" + x0 + "Z";
    });
    plot.svg.append(draw("path", { class: "bars", d: path }));
  }

  function pairsOf(unit) {
    return DATA.pairs.filter((pair) => pair.units.includes(unit)).sort((a, b) => a.distance - b.distance);
  }

  function projectionChart(unit, pair) {
    const isFirst = pair.units[0] === unit;
    const [own, other] = isFirst ? pair.projection : [pair.projection[1], pair.projection[0]];
    const bins = own.length, last = bins - 1;
    const sum = (counts) => counts.reduce((a, b) => a + b, 0) || 1;
    const shares = [own, other].map((counts) => counts.map((count) => count / sum(counts)));
    const plot = makePlot("Embeddings of units " + DATA.units[unit].id + " and " + DATA.units[otherOf(unit, pair)].id + " along the axis that tells them apart", {
      width: 250, height: 96, left: 6, right: 6, top: 4, bottom: 8, x: [0, bins], y: [0, Math.max(...shares[0], ...shares[1]) * 1.05],
    });
    const at = (bin) => plot.x(isFirst ? bin : bins - bin); // its own unit always on the left
    let bars = "", line = "";
    for (let bin = 0; bin < bins; bin++) {
      if (shares[0][bin]) bars += "M" + at(bin) + " " + plot.y(0) + "V" + plot.y(shares[0][bin]) + "H" + at(bin + 1) + "V" + plot.y(0) + "Z";
      line += (bin ? "L" : "M" + at(0) + " " + plot.y(0) + "L") + at(bin) + " " + plot.y(shares[1][bin]) + "L" + at(bin + 1) + " " + plot.y(shares[1][bin]);
      if (bin === last) line += "L" + at(bins) + " " + plot.y(0);
    }
    plot.svg.append(draw("path", { class: "bars", d: bars }), draw("path", { class: "other", d: line }));
    addAxes(plot, { xTicks: 0, yTicks: 0 });
    return plot.svg;
  }

  function otherOf(unit, pair) {
    return pair.units[0] === unit ? pair.units[1] : pair.units[0];
  }

  function apart(pair) {
    if (pair.separation < 3) return "not told apart by embedding";
    return pair.separation < 6 ? "close" : "well apart";
  }

  function neighbours(unit) {
    const pairs = pairsOf(unit).slice(0, 4);
    const box = make("div", { class: "span" }, make("h4", {}, "Nearest units in the embedding"));
    if (!pairs.length) {
      box.append(missing("No unit near it to be taken for."));
      return box;
    }
    const row = make("div", { class: "row" });
    for (const pair of pairs) {
      row.append(make("figure", {}, projectionChart(unit, pair),
        make("figcaption", {}, "Unit ", unitLink(otherOf(unit, pair)), ": D " + pair.separation.toFixed(1) + ", " + apart(pair))));
    }
    box.append(row, make("p", { class: "hint" }, "Filled: this unit; dashed line: the other. Spikes along the axis that tells both apart best; D is Ashman’s, below 3 the sorting would join them."));
    return box;
  }

  function candidates(unit) {
    const pairs = pairsOf(unit).filter((pair) => pair.ccg);
    const box = make("div", { class: "span" }, make("h4", {}, "Merge candidates"));
    if (!pairs.length) {
      box.append(missing("None: no unit beside it is both alike and badly separated."));
      return box;
    }
    const row = make("div", { class: "row" });
    for (const pair of pairs) {
      const other = otherOf(unit, pair);
      const label = "Cross-correlogram of units " + DATA.units[pair.units[0]].id + " and " + DATA.units[pair.units[1]].id;
      const similarity = pair.similarity === null ? "" : ", template similarity " + pair.similarity.toFixed(2);
      row.append(make("figure", {}, correlogramChart(label, pair.ccg),
        make("figcaption", {}, "With unit ", unitLink(other), ": D " + pair.separation.toFixed(1) + ", evidence of two neurons " + pair.evidence.toFixed(1) + " nats" + similarity + ".")));
    }
    box.append(row, make("p", { class: "hint" }, "Cross-correlograms. Pieces of one neuron leave the shaded 1.5 ms empty, two neurons do not; a peak in the middle: both hold the same spikes."));
    return box;
  }

  // ----------------------------------------------------------------- overview

  function probeChart() {
    const probe = DATA.overview.probe;
    const offsets = groupOffsets(probe);
    const contactX = probe.contacts.map((each, row) => each[0] + offsets[probe.groups[row]]);
    const unitGroup = DATA.units.map((unit) => probe.groups[unit.template.channels[0]]);
    const [left, right] = extent(contactX), [low, high] = extent(probe.contacts.map((each) => each[1]));
    const marginX = (right - left || 40) * 0.12, marginY = (high - low || 40) * 0.08;
    const plot = makePlot("Units on the probe", {
      height: 400, left: 54, x: [left - marginX, right + marginX], y: [low - marginY, high + marginY], xLabel: "across (µm)", yLabel: "depth (µm)",
    });
    addAxes(plot, { xTicks: offsets.some((each) => each) ? 0 : 4, yTicks: 8 });
    probe.contacts.forEach((contact, row) => {
      plot.svg.append(draw("rect", { class: "contact", x: plot.x(contactX[row]) - 2.5, y: plot.y(contact[1]) - 2.5, width: 5, height: 5 }));
    });
    const sizes = DATA.units.map((unit) => Math.abs(unit.template.uv));
    const largest = Math.max(...sizes);
    DATA.overview.probe.units.forEach((place, unit) => {
      const r = 3.5 + 5 * Math.sqrt(sizes[unit] / largest);
      const x = plot.x(place[0] + offsets[unitGroup[unit]]), y = plot.y(place[1]), kind = quality(unit);
      const shape = kind === "good" ? draw("circle", { cx: x, cy: y, r }) : draw("path", { d: "M" + x + " " + (y - r) + "L" + (x + r) + " " + (y + r) + "H" + (x - r) + "Z" });
      fill(shape, { class: "place " + kind, "data-unit": unit }, [draw("title", {}, "unit " + DATA.units[unit].id)]);
      plot.svg.append(shape);
    });
    labelPlaces(plot, unitGroup.map((group) => offsets[group]));
    return figure("Where the units lie", plot.svg, "Filled circles are good, open triangles several neurons; larger ones have larger spikes. Grey squares: contacts. Across and along the probe the scales differ.");
  }

  // Names beside the places, on the left where there is no room on the right, none where there is none at all.
  function labelPlaces(plot, offsets) {
    const taken = DATA.overview.probe.units.map((place, unit) => [plot.x(place[0] + offsets[unit]) - 6, plot.y(place[1]) - 6, 12, 12]);
    const isFree = (box) => taken.every((each) => box[0] > each[0] + each[2] || box[0] + box[2] < each[0] || box[1] > each[1] + each[3] || box[1] + box[3] < each[1]);
    DATA.overview.probe.units.forEach((place, unit) => {
      const x = plot.x(place[0] + offsets[unit]), y = plot.y(place[1]), name = DATA.units[unit].id, width = name.length * LETTER_PX;
      const box = [[x + 9, y - 6, width, 12], [x - 9 - width, y - 6, width, 12]].find(isFree);
      if (!box) return;
      taken.push(box);
      plot.svg.append(draw("text", { class: "strong", x: box[0], y: y + 4 }, name));
    });
  }

  // Groups whose contacts share places stand side by side.
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
    const plot = makePlot("When the units fire", {
      width: WIDE_PX, height, left: 26 + Math.min(120, longest * LETTER_PX), x: [0, AXIS.total_s / time.seconds], y: [order.length, 0],
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
    addSegments(plot, time);
    addAxes(plot, { xTicks: 8, yTicks: 0 });
    if (isNamed) {
      order.forEach((unit, row) => {
        plot.svg.append(draw("text", { x: inner.x0 - 6, y: plot.y(row + 0.5) + 4, "text-anchor": "end" }, DATA.units[unit].id.slice(0, 20)));
      });
    }
    const result = figure("When the units fire", plot.svg,
      "Darker: more spikes in " + (rates.bin_s < 1 ? Math.round(1000 * rates.bin_s) + " ms" : short(rates.bin_s) + " s") + ", each unit against its own busiest moment" + (AXIS.starts_s.length ? "; dashed lines: segments." : "."));
    result.classList.add("span");
    return result;
  }

  function driftChart() {
    const drift = DATA.overview.drift;
    const times = decode(drift.times, Uint16Array), depths = decode(drift.depths, Int16Array), sizes = decode(drift.sizes, Uint8Array);
    const time = timeUnit(), total = AXIS.total_s / time.seconds;
    const [low, high] = extent(depths);
    const plot = makePlot("Depth of spikes over time", {
      width: MIDDLE_PX, height: 400, left: 54, x: [0, total], y: [low * drift.um - 10, high * drift.um + 10], xLabel: "time (" + time.name + ")", yLabel: "depth (µm)",
    });
    const paths = ["", "", "", ""];
    for (let index = 0; index < times.length; index++) {
      paths[sizes[index]] += "M" + plot.x((times[index] / 65535) * total) + " " + plot.y(depths[index] * drift.um) + "h0";
    }
    addSegments(plot, time);
    paths.forEach((path, size) => {
      plot.svg.append(draw("path", { class: "dots", d: path, style: "stroke-width:" + (1.2 + 0.5 * size) + ";opacity:" + (0.2 + 0.2 * size) }));
    });
    let moved = "";
    if (drift.line) {
      const middle = ((low + high) / 2) * drift.um;
      drift.line.forEach((value, bin) => {
        if (value !== null) moved += (moved ? "L" : "M") + plot.x(((bin + 0.5) / drift.line.length) * total) + " " + plot.y(middle + value);
      });
      plot.svg.append(draw("path", { class: "motion", d: moved }));
    }
    addAxes(plot, { xTicks: 8, yTicks: 8 });
    const told = drift.line ? "The line is the motion of the tissue, up to " + drift.moved_um + " µm, which was corrected before sorting." : "No motion was corrected.";
    return figure("Drift", plot.svg, drift.num_shown.toLocaleString("en") + " spikes as they were recorded, larger ones darker. " + told);
  }

  // For contacts too near to each other to see tissue move along them.
  function trendChart() {
    const lines = DATA.overview.trend;
    const time = timeUnit(), total = AXIS.total_s / time.seconds;
    const [low, high] = extent(lines.flat().filter((value) => value !== null));
    const plot = makePlot("Amplitude of the units over time", {
      width: MIDDLE_PX, height: 400, left: 54, x: [0, total], y: [Math.min(0.5, low - 0.05), Math.max(1.5, high + 0.05)],
      xLabel: "time (" + time.name + ")", yLabel: "amplitude, of the unit’s median",
    });
    addSegments(plot, time);
    const pathOf = (line) => {
      let path = "", isDown = false;
      line.forEach((value, bin) => {
        if (value !== null) path += (isDown ? "L" : "M") + plot.x(((bin + 0.5) / line.length) * total) + " " + plot.y(value);
        isDown = value !== null;
      });
      return path;
    };
    for (const line of lines) plot.svg.append(draw("path", { class: "trace", style: "opacity:.55", d: pathOf(line) }));
    const middle = lines[0].map((_, bin) => {
      const here = lines.map((line) => line[bin]).filter((value) => value !== null).sort((a, b) => a - b);
      return here.length ? here[Math.floor(here.length / 2)] : null;
    });
    plot.svg.append(draw("path", { class: "motion", d: pathOf(middle) }));
    addAxes(plot, { xTicks: 8, yTicks: 8 });
    return figure("Drift", plot.svg, "Amplitude of each unit over time (thin lines) and the median of all (thick). The contacts lie too near to each other to see tissue move along them; where it moves, amplitudes rise and fall.");
  }

  function drawOverview() {
    const box = document.getElementById("charts");
    if (!DATA.units.length) {
      box.append(missing("No units, nothing to draw."));
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
      const place = event.target.closest("[data-unit]");
      if (place) open(Number(place.dataset.unit), true);
    });
  }

  // -------------------------------------------------------------- panels, table

  function drawPanel(details) {
    const box = details.querySelector(".panel"), unit = Number(details.dataset.unit);
    if (box.childElementCount) return;
    if (DATA.units[unit].template === null) {
      box.append(figure("Template and amplitudes", missing("Not saved in this folder.")), autocorrelogram(unit));
    } else {
      box.append(templateChart(unit), make("div", {}, amplitudeChart(unit), autocorrelogram(unit)));
    }
    box.append(neighbours(unit), candidates(unit));
  }

  function open(unit, isShown) {
    const details = document.getElementById("unit-" + unit);
    if (!details) return;
    details.hidden = false;
    details.open = true;
    drawPanel(details);
    if (isShown) {
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

  function sortBy(head) {
    const kind = head.querySelector("button").dataset.kind;
    const now = head.getAttribute("aria-sort");
    // numbers: the largest first; the rest: the smallest first
    const isDown = now === "none" ? kind === "number" : now === "ascending";
    const column = Array.from(head.parentElement.children).indexOf(head);
    const body = document.querySelector("#table tbody");
    const rows = Array.from(body.rows).map((row) => ({ row, key: value(row, column, kind) }));
    const compare = kind === "word" ? (a, b) => a.key.localeCompare(b.key, "en", { numeric: true }) : (a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0);
    rows.sort((a, b) => (isDown ? compare(b, a) : compare(a, b)));
    body.append(...rows.map((each) => each.row));
    for (const other of head.parentElement.querySelectorAll("[aria-sort]")) other.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", isDown ? "descending" : "ascending");
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
      if (link && link.getAttribute("href") === location.hash) openFromHash(); // no hashchange then
    });
    window.addEventListener("hashchange", openFromHash);
    document.addEventListener("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, select, textarea")) return;
      if (event.key === "j") step(1);
      if (event.key === "k") step(-1);
    });
    if (!DATA.units.length) return;
    for (const head of document.querySelectorAll("#table thead [aria-sort]")) {
      head.querySelector("button").addEventListener("click", () => sortBy(head));
    }
    document.getElementById("filter").addEventListener("change", (event) => filter(event.target.value));
    const setAll = (isOpen) => document.querySelectorAll(".unit:not([hidden])").forEach((each) => { each.open = isOpen; if (isOpen) drawPanel(each); });
    document.getElementById("open-all").addEventListener("click", () => setAll(true));
    document.getElementById("close-all").addEventListener("click", () => setAll(false));
  }

  drawOverview();
  listen();
  if (location.hash) openFromHash();
  else open(0, false); // one, to show what the others hold
})();
