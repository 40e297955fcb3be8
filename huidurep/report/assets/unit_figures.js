// The figures of one unit.
// -------------------------------------------------------------- the figures

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
  const { template, overlap } = DATA.units[unit];
  const contacts = template.channels.map((channel) => DATA.overview.probe.contacts[channel]);
  const n = template.num_samples, values = decode(template.values, Int16Array);
  const spread = template.spread && decode(template.spread, Uint8Array), step = template.spread_uv / template.uv;
  const other = overlap && DATA.units[overlap.unit].template, others = other && decode(other.values, Int16Array);
  // of each contact, in integer steps of the template: mean, both edges of the spread, mean of the other unit
  const lines = contacts.map((_, row) => {
    const mean = Array.from(values.subarray(row * n, (row + 1) * n)), otherRow = other ? other.channels.indexOf(template.channels[row]) : -1;
    const edge = (side) => mean.map((value, sample) => value + (side ? 1 : -1) * spread[(side * contacts.length + row) * n + sample] * step);
    const rival = otherRow < 0 ? null : Array.from(others.subarray(otherRow * n, (otherRow + 1) * n), (value) => (value * other.uv) / template.uv);
    return { mean, low: spread && edge(0), high: spread && edge(1), rival };
  });
  const all = (line) => [line.mean, line.low, line.high, line.rival].filter(Boolean).flat();
  const xs = contacts.map((each) => each[0]), ys = contacts.map((each) => each[1]);
  const stepX = spacing(xs), stepY = spacing(ys), [left, right] = extent(xs);
  const [lowest, highest] = extent(values), [least, most] = extent(lines.flatMap(all));
  const tall = stepY * (new Set(ys).size > 4 ? 1.6 : 0.95); // many rows leave little height for each, so waveforms may overlap
  const scale = tall / (Math.min(most - least, 2 * (highest - lowest)) || 1); // a much larger unit does not flatten this one
  const [bottom, top] = extent(lines.flatMap((line, row) => extent(all(line)).map((value) => ys[row] + value * scale)));
  const plot = makePlot("Mean waveform of unit " + DATA.units[unit].id + " at the contacts of the probe", {
    height: Math.min(440, Math.max(210, ((top - bottom) / stepY) * 46 + 60)), left: 8, right: 8, top: 6, bottom: 40,
    x: [left - stepX * 0.55, right + stepX * 0.55], y: [bottom - stepY * 0.1, top + stepY * 0.1],
  });
  lines.forEach((line, row) => {
    const path = (line, isBack) => {
      const points = line.map((value, sample) => plot.x(xs[row] + (sample / (n - 1) - 0.5) * 0.86 * stepX) + " " + plot.y(ys[row] + value * scale));
      return (isBack ? points.reverse() : points).join("L");
    };
    if (spread) plot.svg.append(draw("path", { class: "spread", d: "M" + path(line.low) + "L" + path(line.high, true) + "Z" }));
    plot.svg.append(draw("circle", { class: "contact", cx: plot.x(xs[row]), cy: plot.y(ys[row]), r: 2.6 }));
    if (line.rival) plot.svg.append(draw("path", { class: "other thin", d: "M" + path(line.rival) }));
    plot.svg.append(draw("path", { class: row ? "trace" : "trace main", d: "M" + path(line.mean) }));
  });
  addScale(plot, template, stepX, template.uv / scale);
  const words = ["Mean waveform at the " + contacts.length + " nearest contacts (dots); bold: main channel." + (spread ? " Shaded: 80 % of the spikes lie within, at each sample." : "")];
  if (overlap) words.push(" Dashed: unit ", unitLink(overlap.unit), ", with which it overlaps most" + overlapText(overlap) + ".");
  return figure("Template", plot.svg, words);
}

function overlapText(overlap) {
  const parts = [];
  if (overlap.share !== null) parts.push(Math.round(100 * overlap.share) + " % of the nearest embeddings");
  if (overlap.distance !== null) parts.push("templates " + overlap.distance.toFixed(1) + " noise levels apart");
  return parts.length ? " (" + parts.join(", ") + ")" : "";
}

// A bar of a round number of uV, about 30 px high, and of 1 ms; uvPerUm: uV that are drawn as 1 um.
function addScale(plot, template, stepX, uvPerUm) {
  const wanted = 30 * ((plot.room.y[1] - plot.room.y[0]) / (plot.inner.y0 - plot.inner.y1)) * uvPerUm;
  const power = Math.pow(10, Math.floor(Math.log10(wanted)));
  const uv = [5, 2, 1].map((each) => each * power).find((each) => each <= wanted) || power;
  const height = Math.abs(plot.y(0) - plot.y(uv / uvPerUm));
  const ms = 1 / (template.end_ms - template.start_ms);
  const width = Math.abs(plot.x(0) - plot.x(0.86 * stepX * ms));
  const x = plot.inner.x0 + 4, y = plot.room.height - 4;
  plot.svg.append(draw("path", { class: "axis", d: "M" + x + " " + round(y - height) + "V" + y + "h" + round(width) }));
  plot.svg.append(draw("text", { x: x + 6, y: y - 6 }, short(uv) + " µV, 1 ms"));
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
  return figure("Autocorrelogram", correlogramChart("Autocorrelogram of unit " + DATA.units[unit].id, counts, { width: 370, height: 170 }),
    "Lags between spikes of this unit. The refractory period of a single neuron leaves the shaded ±1.5 ms empty.");
}

function intervalChart(unit) {
  const counts = DATA.units[unit].isi, [from, to] = DATA.isi_ms.map(Math.log10), step = (to - from) / counts.length;
  const plot = makePlot("Inter-spike intervals of unit " + DATA.units[unit].id, {
    width: 370, height: 170, x: [from, to], y: [0, extent(counts)[1] * 1.05 || 1], xLabel: "inter-spike interval", yLabel: "intervals",
  });
  plot.svg.append(draw("rect", { class: "band", x: plot.inner.x0, y: plot.inner.y1, width: plot.x(Math.log10(1.5)) - plot.inner.x0, height: plot.inner.y0 - plot.inner.y1 }));
  let path = "";
  counts.forEach((count, bin) => {
    if (count) path += "M" + plot.x(from + bin * step) + " " + plot.inner.y0 + "V" + plot.y(count) + "H" + round(plot.x(from + (bin + 1) * step) + 0.1) + "V" + plot.inner.y0 + "Z";
  });
  plot.svg.append(draw("path", { class: "bars", d: path }));
  addAxes(plot, { isCount: true, xTicks: 0 });
  ["1 ms", "10 ms", "0.1 s", "1 s", "10 s"].forEach((name, power) => {
    plot.svg.append(draw("path", { class: "axis", d: "M" + plot.x(power) + " " + plot.inner.y0 + "v4" }));
    plot.svg.append(draw("text", { x: plot.x(power), y: plot.inner.y0 + 15, "text-anchor": "middle" }, name));
  });
  return figure("Inter-spike intervals", plot.svg, "Logarithmic bins; shaded: below 1.5 ms.");
}

function amplitudeChart(unit) {
  const packed = DATA.units[unit].amplitudes;
  const times = decode(packed.times, Uint16Array), values = decode(packed.values, Int16Array);
  const time = timeUnit();
  const [low, high] = extent(values);
  const margin = 0.06 * (high - low || 1);
  const plot = makePlot("Amplitude over time of unit " + DATA.units[unit].id, {
    width: MIDDLE_PX, height: 200, left: 54, right: 84, x: [timeAt(0), timeAt(1)],
    y: [(low - margin) * packed.uv, (high + margin) * packed.uv], xLabel: "time (" + time.name + ")", yLabel: "amplitude (µV)",
  });
  let path = "";
  for (let index = 0; index < times.length; index++) {
    path += "M" + plot.x(timeAt(times[index] / 65535)) + " " + plot.y(values[index] * packed.uv) + "h0";
  }
  addSegments(plot);
  plot.svg.append(draw("path", { class: "dots", d: path }));
  addAxes(plot, { isTime: true, xTicks: 8 });
  addHistogram(plot, values, packed.uv);
  const shown = packed.num_shown < numSpikes(unit) ? packed.num_shown + " spikes drawn at random" : "all spikes";
  return figure("Amplitude over time", plot.svg,
    "Filtered trace at the peak of " + shown + "; right: histogram. A slope indicates drift; a histogram that is cut off indicates missed spikes" + cutoffText(unit) + ".");
}

function cutoffText(unit) {
  const cutoff = DATA.units[unit].cutoff;
  return cutoff === null ? "" : ": here about " + (100 * cutoff).toFixed(cutoff < 0.1 ? 1 : 0) + " % (amplitude cutoff)";
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
  const plot = makePlot("Embeddings of units " + DATA.units[unit].id + " and " + DATA.units[otherOf(unit, pair)].id + " along their linear discriminant", {
    width: 250, height: 96, left: 6, right: 6, top: 4, bottom: 8, x: [0, bins], y: [0, Math.max(...shares[0], ...shares[1]) * 1.05],
  });
  const at = (bin) => plot.x(isFirst ? bin : bins - bin); // this unit is always on the left
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

function separationText(pair) {
  if (pair.separation < DATA.merge_limit) return "not separated";
  return pair.separation < 2 * DATA.merge_limit ? "weakly separated" : "well separated";
}

function neighbours(unit) {
  const pairs = pairsOf(unit).slice(0, 4);
  const box = make("div", { class: "span" }, make("h4", {}, "Nearest units in the embedding"));
  if (!pairs.length) {
    box.append(missing("No other units near this one."));
    return box;
  }
  const row = make("div", { class: "row" });
  for (const pair of pairs) {
    row.append(make("figure", {}, projectionChart(unit, pair),
      make("figcaption", {}, "Unit ", unitLink(otherOf(unit, pair)), ": D " + pair.separation.toFixed(1) + ", " + separationText(pair))));
  }
  box.append(row, make("p", { class: "hint" }, "Spikes along the linear discriminant of both units (filled: this unit; dashed: the other unit). D: Ashman’s D, the separation of two Gaussians fitted to them."));
  return box;
}

function candidates(unit) {
  const pairs = pairsOf(unit).filter((pair) => pair.ccg);
  const box = make("div", { class: "span" }, make("h4", {}, "Merge candidates"));
  if (!pairs.length) {
    box.append(missing("None: no near unit is both similar and weakly separated."));
    return box;
  }
  const row = make("div", { class: "row" });
  for (const pair of pairs) {
    const other = otherOf(unit, pair);
    const label = "Cross-correlogram of units " + DATA.units[pair.units[0]].id + " and " + DATA.units[pair.units[1]].id;
    const similarity = pair.similarity === null ? "" : ", template similarity " + pair.similarity.toFixed(2);
    row.append(make("figure", {}, correlogramChart(label, pair.ccg),
      make("figcaption", {}, "With unit ", unitLink(other), ": D " + pair.separation.toFixed(1) + ", refractory log-likelihood ratio " + pair.log_likelihood_ratio.toFixed(1) + similarity + ".")));
  }
  box.append(row, make("p", { class: "hint" }, "Cross-correlograms. Over-split units of one neuron share its refractory period and leave the shaded ±1.5 ms empty; two neurons do not. A peak at lag 0 indicates that both units contain the same spikes."));
  return box;
}
