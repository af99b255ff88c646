// Pictures of numbers that can be read without colour: areas, filled and hollow, solid and dashed.

// A curve in a cell, on a logarithmic scale; steps at which nothing has arrived are left out.
function sparkline(norms, back) {
  const [width, height] = [118, 22];
  const logs = norms.map((x) => (x > 0 && Number.isFinite(x) ? Math.log10(x) : null));
  const there = logs.filter((x) => x !== null);
  const svg = svgElement("svg", {
    class: back ? "spark back" : "spark", viewBox: `0 0 ${width} ${height}`, role: "img",
  });
  if (!there.length) return svg;
  const [low, high] = [Math.min(...there), Math.max(...there)];
  const x = (k) => 2 + ((width - 4) * k) / Math.max(1, norms.length - 1);
  const y = (v) => (high - low < 1e-9 ? height / 2 : 3 + ((height - 6) * (high - v)) / (high - low));
  let path = "";
  let pen = "M";
  logs.forEach((v, k) => {
    if (v === null) pen = "M";
    else {
      path += `${pen}${x(k).toFixed(1)} ${y(v).toFixed(1)} `;
      pen = "L";
    }
  });
  svg.append(svgElement("path", { d: path }));
  const text = `over the steps: ${formatNumber(10 ** low)} to ${formatNumber(10 ** high)}, log scale`;
  svg.append(svgElement("title", {}, text));
  return svg;
}

function niceTicks(low, high, count) {
  const rough = (high - low) / Math.max(1, count);
  const power = 10 ** Math.floor(Math.log10(rough || 1));
  const step = power * ([1, 2, 5, 10].find((m) => m * power >= rough) || 10);
  const ticks = [];
  for (let v = Math.ceil(low / step) * step; v <= high + step * 1e-9; v += step) ticks.push(v);
  return ticks;
}

// Series over positions: [{ name, values, dashed }]; logarithmic where sizes differ much.
function lineChart(series, positions, { label = "t", unit = "norm", bars = false, small = false } = {}) {
  const narrow = small || window.innerWidth < 600;
  const [width, height, left, bottom] = narrow ? [330, 190, 62, 34] : [520, 210, 62, 34];
  const all = series.flatMap((one) => one.values).filter((x) => Number.isFinite(x));
  const sizes = all.filter((x) => x > 0);
  const log = !bars && sizes.length > 1 && sizes.length === all.filter((x) => x !== 0).length &&
    Math.max(...sizes) / Math.min(...sizes) > 50;
  const scaled = (v) => (log ? (v > 0 ? Math.log10(v) : null) : v);
  let low = Math.min(...all.map(scaled).filter((v) => v !== null));
  let high = Math.max(...all.map(scaled).filter((v) => v !== null));
  if (!log) [low, high] = [Math.min(low, 0), Math.max(high, 0)];
  if (!(high > low)) high = low + 1;
  const [first, last] = [Math.min(...positions), Math.max(...positions)];
  const spread = Math.max(1, last - first);
  const x = (p) => left + 10 + ((width - left - 24) * (p - first)) / spread;
  const y = (v) => 26 + ((height - bottom - 30) * (high - v)) / (high - low);
  const svg = svgElement("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, role: "img" });
  const inside = log ? niceTicks(Math.ceil(low), Math.floor(high), 4) : niceTicks(low, high, 4);
  const ticks = inside.length ? inside : [low, high];
  for (const v of ticks) {
    const text = formatTick(log ? 10 ** v : v);
    svg.append(
      svgElement("line", { class: "grid", x1: left, x2: width - 8, y1: y(v), y2: y(v) }),
      svgElement("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, text),
    );
  }
  const places = niceTicks(first, last, narrow ? 4 : 6).filter((p) => Number.isInteger(p));
  for (const p of places.length ? places : [first]) {
    svg.append(svgElement("text", { x: x(p), y: height - 16, "text-anchor": "middle" }, String(p)));
  }
  svg.append(
    svgElement("text", { x: (left + width) / 2, y: height - 2, "text-anchor": "middle" }, label),
    svgElement("text", { class: "unit", x: 4, y: 10 }, log ? `${unit}, log scale` : unit),
  );
  for (const one of series) {
    const group = svgElement("g", { class: one.dashed ? "series back" : "series" });
    if (bars) drawBars(group, one, positions, x, y, (width - left) / (spread + 1));
    else drawCurve(group, one, positions, x, (v) => (scaled(v) === null ? null : y(scaled(v))));
    svg.append(group);
  }
  return svg;
}

function drawCurve(group, one, positions, x, y) {
  let path = "";
  let pen = "M";
  one.values.forEach((v, k) => {
    const place = Number.isFinite(v) ? y(v) : null;
    if (place === null) {
      pen = "M";
      return;
    }
    path += `${pen}${x(positions[k]).toFixed(1)} ${place.toFixed(1)} `;
    pen = "L";
    if (positions.length <= 60) {
      const dot = svgElement("circle", { cx: x(positions[k]), cy: place, r: 2.6 });
      dot.append(svgElement("title", {}, `${one.name} at ${positions[k]}: ${formatNumber(v, 4)}`));
      group.append(dot);
    }
  });
  group.prepend(svgElement("path", { d: path }));
}

function drawBars(group, one, positions, x, y, room) {
  const width = Math.max(1, Math.min(18, 0.7 * room));
  one.values.forEach((v, k) => {
    if (!Number.isFinite(v)) return;
    const [top, foot] = [Math.min(y(v), y(0)), Math.max(y(v), y(0))];
    const bar = svgElement("rect", {
      class: v < 0 ? "negative" : "positive",
      x: x(positions[k]) - width / 2, y: top, width, height: Math.max(1, foot - top),
    });
    bar.append(svgElement("title", {}, `${one.name} at ${positions[k]}: ${formatNumber(v, 4)}`));
    group.append(bar);
  });
}

// The rows and columns in which a sample is drawn: leading axes below each other, long rows cut.
function gridOf(shape, count) {
  if (!shape.length) return { rows: 1, columns: 1 };
  const columns = shape[shape.length - 1] || 1;
  if (shape.length === 1 && columns > 32) return { rows: Math.ceil(columns / 32), columns: 32 };
  return { rows: count / columns, columns };
}

// Squares whose area is the size of an element: filled above 0, hollow below.
function heatMap(sample, describe) {
  const { values, shape, largest } = sample;
  const { rows, columns } = gridOf(shape, values.length);
  const cell = Math.max(5, Math.min(22, Math.floor(440 / columns)));
  const scale = window.devicePixelRatio || 1;
  const canvas = element("canvas", { class: "heat", role: "img", tabindex: "0" });
  canvas.width = columns * cell * scale;
  canvas.height = rows * cell * scale;
  canvas.style.width = `${columns * cell}px`;
  canvas.style.maxWidth = "100%";
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const pen = canvas.getContext("2d");
  pen.scale(scale, scale);
  pen.fillStyle = colour("--heat-ground");
  pen.fillRect(0, 0, columns * cell, rows * cell);
  values.forEach((v, k) => {
    const [cx, cy] = [((k % columns) + 0.5) * cell, (Math.floor(k / columns) + 0.5) * cell];
    if (!Number.isFinite(v)) return drawStrange(pen, v, cx, cy, cell, colour("--strange"));
    const side = largest ? (cell - 1.5) * Math.sqrt(Math.abs(v) / largest) : 0;
    if (side < 0.6) return undefined;
    pen.fillStyle = pen.strokeStyle = colour(v > 0 ? "--value" : "--negative");
    if (v > 0) pen.fillRect(cx - side / 2, cy - side / 2, side, side);
    else {
      const line = Math.min(1.4, side / 3);
      pen.lineWidth = line;
      pen.strokeRect(cx - side / 2 + line / 2, cy - side / 2 + line / 2, side - line, side - line);
    }
    return undefined;
  });
  const readout = element("p", { class: "readout" },
    `area: size, up to ${formatNumber(largest)}; filled: above 0, hollow: below 0`);
  canvas.setAttribute("aria-label", `${values.length} elements, the largest of size ${formatNumber(largest)}`);
  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const k = row * columns + column;
    if (k >= 0 && k < values.length) readout.textContent = `${describe(k)} = ${formatNumber(values[k], 4)}`;
  });
  return element("div", {}, canvas, readout);
}

// NaN as a cross, infinities as a triangle that points up or down.
function drawStrange(pen, v, x, y, cell, colour) {
  const r = cell / 2 - 1;
  pen.strokeStyle = pen.fillStyle = colour;
  pen.lineWidth = 1.5;
  pen.beginPath();
  if (Number.isNaN(v)) {
    pen.moveTo(x - r, y - r);
    pen.lineTo(x + r, y + r);
    pen.moveTo(x + r, y - r);
    pen.lineTo(x - r, y + r);
    pen.stroke();
  } else {
    const way = v > 0 ? 1 : -1;
    pen.moveTo(x - r, y + way * r);
    pen.lineTo(x + r, y + way * r);
    pen.lineTo(x, y - way * r);
    pen.fill();
  }
}

function numberTable(sample) {
  const { values, shape } = sample;
  const { rows, columns } = gridOf(shape, values.length);
  const table = element("table", { class: "numbers" });
  for (let r = 0; r < rows; r++) {
    const line = element("tr");
    for (let c = 0; c < columns && r * columns + c < values.length; c++) {
      line.append(element("td", {}, formatNumber(values[r * columns + c])));
    }
    table.append(line);
  }
  return element("div", { class: "scrolling", tabindex: "0" }, table);
}
