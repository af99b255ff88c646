// The values and the cotangents of a row, side by side, as a heat map, as numbers or over t.

class Cards {
  // `redraw()` is called when another view is chosen.
  constructor(outline, clock, redraw) {
    Object.assign(this, { outline, clock, redraw, tape: outline.tape });
    this.view = "map"; // how elements are shown: map, numbers or curve
  }

  // The values, or the cotangents, of a row: measures, and the elements in one of three views.
  card(row, kind) {
    const tape = this.tape;
    const back = kind === "cotangents";
    const leafTitle = back && tape.isLeaf(row) ? "Gradient" : null;
    const card = element("section", { class: back ? "card back" : "card" },
      element("h3", {}, leafTitle || (back ? "Cotangent" : "Value")));
    if (!this.clock.hasArrived(row, kind)) {
      card.append(element("p", { class: "small" }, back
        ? "The backward pass has not come here yet."
        : "The forward pass has not come here yet."));
      return card;
    }
    if (!tape.hasAny(tape[kind], row)) {
      card.append(element("p", { class: "small" }, back
        ? "No gradient arrives here." : "It has no numbers to be measured."));
      return card;
    }
    const first = tape.first[row];
    const count = tape.first[row + 1] - first;
    card.append(this._views(), this._view(row, kind));
    for (let k = first; k < first + Math.min(count, 8); k++) {
      const title = count > 1 ? `result ${k - first}` : "";
      if (this.view !== "curve") card.append(this._elements(row, tape[kind], k, title));
    }
    if (count > 8) card.append(element("p", { class: "small" }, `and ${count - 8} more results`));
    return card;
  }

  _views() {
    const names = { map: "heat map", numbers: "numbers", curve: "over t" };
    return element("div", { class: "views", role: "group" },
      ...Object.entries(names).map(([view, name]) => element("button", {
        type: "button",
        "aria-pressed": String(this.view === view),
        onclick: () => {
          this.view = view;
          this.redraw();
        },
      }, name)));
  }

  _elements(row, measured, k, title) {
    const found = measured.of(k);
    const box = element("div", { class: "elements" });
    if (title) box.append(element("h4", {}, title));
    if (!found) {
      box.append(element("p", { class: "small" }, "nothing arrives here"));
      return box;
    }
    const sample = measured.sample(k);
    if (sample && this.view === "map") box.append(heatMap(sample, (n) => this._index(row, sample, n)));
    if (sample && this.view === "numbers") box.append(numberTable(sample));
    box.append(this._measures(found));
    return box;
  }

  _measures(found) {
    const names = ["min", "mean", "max", "norm"];
    const cells = names.map((name) => [name, formatNumber(found[name])]);
    cells.push(["zeros", formatShare(found.zeros)]);
    if (found.nan) cells.push(["nan", formatCount(found.nan)]);
    if (found.infinite) cells.push(["infinite", formatCount(found.infinite)]);
    return element("dl", { class: "measures" }, ...cells.map(([name, value]) =>
      element("div", {}, element("dt", {}, name), element("dd", {}, value))));
  }

  // Which element of the whole array the n-th one of a sample is.
  _index(row, sample, n) {
    const match = /\(([^)]*)\)/.exec(this.tape.text("kind", row));
    const sizes = match ? match[1].split(",").filter((x) => x.trim()).map(Number) : [];
    const places = [];
    let rest = n;
    for (let axis = sample.shape.length - 1; axis >= 0; axis--) {
      const length = sample.shape[axis];
      const k = rest % length;
      rest = Math.floor(rest / length);
      const size = sizes.length === sample.shape.length ? sizes[axis] : length;
      places.unshift(length > 1 ? Math.round((k * (size - 1)) / (length - 1)) : 0);
    }
    return `[${places.join(", ")}]`;
  }

  // The curve over t: of the same row at all steps of its loop, else along the first axis.
  _view(row, kind) {
    if (this.view !== "curve") return "";
    const tape = this.tape;
    const back = kind === "cotangents";
    const rows = this.outline.series(row);
    if (rows.length > 1) {
      const positions = rows.map((x, k) => (tape.rows.step[x] >= 0 ? tape.rows.step[x] : k));
      const values = rows.map((x) => tape.norm(tape[kind], x));
      return lineChart([{ name: tape.text("op", row), values, dashed: back }], positions,
        { unit: back ? "norm of the cotangent" : "norm of the value", small: true });
    }
    const sample = tape[kind].sample(tape.first[row]);
    if (!sample || sample.shape.length < 1 || sample.shape[0] < 2) {
      return element("p", { class: "small" }, "It is in no loop, and has no axis to go along.");
    }
    const [length] = sample.shape;
    const each = sample.values.length / length;
    const values = Array.from({ length }, (_, k) => {
      const part = sample.values.subarray(k * each, (k + 1) * each);
      return each === 1 ? part[0] : Math.sqrt(part.reduce((sum, x) => sum + x * x, 0) / each);
    });
    const positions = values.map((_, k) => Number(this._index(row, sample, k * each).slice(1).split(/[,\]]/)[0]));
    return lineChart([{ name: "elements", values, dashed: back }], positions, {
      label: "place on the first axis",
      unit: each === 1 ? "element" : "root mean square of those shown",
      small: true,
    });
  }
}
