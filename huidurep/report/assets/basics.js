// Elements, numbers and axes that all figures of the page share.
const DATA = JSON.parse(document.getElementById("data").textContent);
const AXIS = DATA.axis;
const LETTER_PX = 6.6; // width of a letter at 11 px, which reserves space for labels
// Figures are drawn at the width at which the page shows them, so that text is not scaled; wider ones could not be printed.
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

// A tick, which is a multiple of a round number: all its digits, but for the error of the multiplication.
function plain(value) {
  return String(parseFloat(value.toPrecision(12)));
}

function round(value) {
  return Math.round(value * 10) / 10;
}

// Unit of the time axis that suits the duration.
function timeUnit() {
  if (AXIS.total_s < 300) return { name: "s", seconds: 1 };
  return AXIS.total_s < 7200 ? { name: "min", seconds: 60 } : { name: "h", seconds: 3600 };
}

// Time, in that unit, of a place on the axis from 0 (start) to 1 (end).
function timeAt(place) {
  return (AXIS.first_s + place * AXIS.total_s) / timeUnit().seconds;
}

// Ticks of the time axis, in that unit: their places, and the recording's times there, which begin anew with segments
// that do not continue the one before.
function timeTicks(wanted) {
  const seconds = timeUnit().seconds, pieces = [{ start: 0, recorded: AXIS.first_s }];
  AXIS.starts_s.forEach((start, index) => {
    const last = pieces[pieces.length - 1], recorded = AXIS.recorded_s[index];
    if (Math.abs(recorded - last.recorded - (start - last.start)) > 0.001) pieces.push({ start, recorded });
  });
  const found = [], room = AXIS.total_s / seconds / wanted / 2; // of a label
  pieces.forEach(({ start, recorded }, index) => {
    const isLast = index + 1 === pieces.length, length = (isLast ? AXIS.total_s : pieces[index + 1].start) - start;
    const low = recorded / seconds, high = (recorded + length) / seconds - (isLast ? 0 : room);
    const number = Math.max(pieces.length > 1 ? 3 : 0, (wanted * length) / AXIS.total_s);
    for (const value of high < low ? [] : ticks(low, high, number)) {
      const at = value - low + timeAt(start / AXIS.total_s);
      if (!found.length || at - found[found.length - 1].at > room) found.push({ at, text: plain(value) });
    }
  });
  return found;
}

// -------------------------------------------------------------- coordinates

// Empty chart; options: width, height, left, right, top, bottom (margins), x and y (ranges), xLabel, yLabel.
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
    const plainTicks = () => ticks(room.x[0], room.x[1], chosen.xTicks).map((value) => ({ at: value, text: plain(value) }));
    for (const { at, text } of chosen.isTime ? timeTicks(chosen.xTicks) : plainTicks()) {
      svg.append(draw("path", { class: "axis", d: "M" + x(at) + " " + inner.y0 + "v4" }));
      svg.append(draw("text", { x: x(at), y: inner.y0 + 15, "text-anchor": "middle" }, text));
    }
  }
  if (chosen.yTicks) {
    for (const value of ticks(room.y[0], room.y[1], chosen.yTicks).filter((each) => !chosen.isCount || Number.isInteger(each))) {
      svg.append(draw("path", { class: "axis", d: "M" + inner.x0 + " " + y(value) + "h-4" }));
      svg.append(draw("text", { x: inner.x0 - 7, y: y(value) + 4, "text-anchor": "end" }, plain(value)));
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

function addSegments(plot) {
  for (const start of AXIS.starts_s) {
    plot.svg.append(draw("path", { class: "grid-line", d: "M" + plot.x(timeAt(start / AXIS.total_s)) + " " + plot.inner.y1 + "V" + plot.inner.y0 }));
  }
}

// Write labels beside their points, where they cover neither marks nor other labels nor leave the chart; a label that
// finds no place is left out. items: x, y, text, gap (radius of the mark), isOver (may lie on the point itself).
function placeLabels(plot, items, marks) {
  const taken = marks.slice(), { room } = plot;
  const isFree = (box) => box[0] >= 1 && box[0] + box[2] <= room.width - 1 && box[1] >= 1 && box[1] + box[3] <= plot.inner.y0 &&
    taken.every((each) => box[0] > each[0] + each[2] || box[0] + box[2] < each[0] || box[1] > each[1] + each[3] || box[1] + box[3] < each[1]);
  for (const { x, y, text, gap, isOver } of items) {
    const width = text.length * LETTER_PX + 2, height = 12, places = isOver ? [[x - width / 2, y - 6]] : [];
    for (const far of [gap + 3, gap + 12, gap + 22]) {
      places.push([x + far, y - 6], [x - far - width, y - 6], [x - width / 2, y - far - height], [x - width / 2, y + far]);
      for (const up of [-1, 1]) places.push([x + far * 0.8, y - 6 + up * (far * 0.8 + 3)], [x - far * 0.8 - width, y - 6 + up * (far * 0.8 + 3)]);
    }
    const found = places.find((place) => isFree([place[0], place[1], width, height]));
    if (!found) continue;
    taken.push([found[0], found[1], width, height]);
    const middle = [found[0] + width / 2, found[1] + height / 2];
    if (!isOver && Math.hypot(Math.max(0, Math.abs(middle[0] - x) - width / 2), Math.max(0, Math.abs(middle[1] - y) - height / 2)) > gap + 7) {
      const end = [Math.min(Math.max(x, found[0]), found[0] + width), Math.min(Math.max(y, found[1]), found[1] + height)];
      plot.svg.append(draw("path", { class: "leader", d: "M" + round(x) + " " + round(y) + "L" + round(end[0]) + " " + round(end[1]) }));
    }
    plot.svg.append(draw("text", { class: "strong halo", x: round(found[0] + 1), y: round(found[1] + 10) }, text));
  }
}
