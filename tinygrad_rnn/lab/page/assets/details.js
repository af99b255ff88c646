// What there is to know of the chosen row or part.

class Details {
  // `go(target)` chooses another one; `stages` show how a replayed loop was compiled.
  constructor(outline, clock, go, stages) {
    Object.assign(this, { outline, clock, go, stages, tape: outline.tape });
    this.box = document.getElementById("details");
    this.cards = new Cards(outline, clock, () => this.show(this.target));
  }

  show(target) {
    this.target = target;
    this.box.replaceChildren();
    if (target === null) return;
    if (target instanceof Part) this._part(target);
    else this._row(target);
  }

  _add(...children) {
    this.box.append(...children.filter(Boolean));
  }

  _trail(target) {
    const trail = element("p", { class: "trail" });
    for (const part of this.outline.trail(target)) {
      trail.append(this._link(part, part.title), " › ");
    }
    return trail;
  }

  _link(target, text) {
    return element("button", { class: "link", type: "button", onclick: () => this.go(target) }, text);
  }

  // Parts

  _part(part) {
    const tape = this.tape;
    this._add(this._trail(part), element("h2", {}, part.title));
    if (part.kind === "leaves") return this._leaves(part);
    this._add(this._facts([
      [part.isReplayed ? "operations" : "records", formatCount(part.records)],
      ["bytes of results", formatBytes(part.bytes)],
      part.merged > 1 && ["shown as one", `${part.merged} steps or repetitions`],
    ]));
    if (part.loop >= 0) this._add(this._loopButton(part.loop));
    const { steps } = part;
    if (part.isOfSteps && steps.length > 1) {
      const all = (kind) => steps.map((step) => Math.sqrt(step[kind]));
      const positions = this._positions(steps);
      this._add(
        element("h3", {}, "Values over the steps"),
        lineChart([{ name: "values", values: all("values") }], positions,
          { unit: "norm of all results of a step" }),
      );
      if (tape.backwards) {
        this._add(
          element("h3", {}, "Cotangents over the steps"),
          lineChart([{ name: "cotangents", values: all("cotangents"), dashed: true }], positions,
            { unit: "norm of all cotangents of a step" }),
        );
      }
    }
    return this._add(this._children(part));
  }

  _positions(steps) {
    const found = steps.map((step, k) => {
      const match = /^t = (\d+)/.exec(step.title) || /^(\d+)/.exec(step.title);
      return match ? Number(match[1]) : k;
    });
    return found;
  }

  _children(part) {
    const table = element("table", { class: "parts" });
    table.append(element("tr", {},
      ...["part", "records", "bytes", "values", "cotangents"].map((x) => element("th", {}, x))));
    for (const item of part.items.slice(0, 60)) {
      const isPart = item instanceof Part;
      const name = isPart ? item.title : this.tape.name(item);
      table.append(element("tr", {},
        element("td", {}, this._link(item, isPart ? name : `${name} ${this.tape.text("op", item)}`)),
        element("td", {}, isPart ? formatCount(item.records) : "1"),
        element("td", {}, formatBytes(isPart ? item.bytes : this.tape.rows.bytes[item])),
        element("td", {}, formatNumber(this._norm(item, "values"))),
        element("td", {}, formatNumber(this._norm(item, "cotangents")))));
    }
    const more = part.items.length - 60;
    return element("section", {}, element("h3", {}, "Parts"), table,
      more > 0 ? element("p", { class: "small" }, `and ${more} more: unfold to see them`) : "");
  }

  _norm(item, kind) {
    if (item instanceof Part) return Math.sqrt(item[kind]);
    return this.tape.norm(this.tape[kind], item);
  }

  _leaves(part) {
    const table = element("table", { class: "parts" });
    const head = ["name", "kind", "norm", "norm of gradient", "uses"];
    table.append(element("tr", {}, ...head.map((x) => element("th", {}, x))));
    for (const row of part.items) {
      const uses = this.tape.uses[row];
      table.append(element("tr", {},
        element("td", {}, this._link(row, this.tape.name(row))),
        element("td", {}, this.tape.text("kind", row)),
        element("td", {}, formatNumber(this._norm(row, "values"))),
        element("td", {}, this.tape.hasAny(this.tape.cotangents, row)
          ? formatNumber(this._norm(row, "cotangents")) : "–"),
        element("td", {}, uses ? formatCount(uses[0].length) : "–")));
    }
    this._add(element("div", { class: "scrolling" }, table));
  }

  // Rows

  _row(row) {
    const tape = this.tape;
    const leaf = tape.isLeaf(row);
    const operation = tape.text("op", row);
    this._add(
      this._trail(row),
      element("h2", {}, tape.name(row), leaf ? "" : element("small", {}, ` ${operation}`)),
      this._equation(row),
    );
    const loop = tape.rows.loop[row];
    if (loop >= 0) this._add(this._loopButton(loop));
    this._add(element("div", { class: "cards" },
      this.cards.card(row, "values"), tape.backwards ? this.cards.card(row, "cotangents") : ""));
    if (leaf) this._add(this._contributions(row));
    this._add(this._facts(this._rowFacts(row)), this._neighbours(row));
    if (!leaf) this._add(this._rule(tape.operation(row)));
  }

  _equation(row) {
    const tape = this.tape;
    const box = element("div", { class: "equation" });
    for (const column of ["equation", "line"]) {
      const place = tape.text(column, row);
      if (place && tape.code[place]) {
        box.append(element("pre", {}, tape.code[place]), element("p", { class: "small" }, place));
        break;
      }
    }
    const what = tape.isLeaf(row) ? tape.call(row) : `${tape.name(row)} = ${tape.call(row)}`;
    box.append(element("code", {}, what));
    return box;
  }

  _rowFacts(row) {
    const tape = this.tape;
    const step = tape.rows.step[row];
    const way = tape.rows.reverse[row] ? ", the loop runs backwards" : "";
    const used = tape.sources[row].filter((x) => tape.isLeaf(x) && tape.text("name", x));
    return [
      ["kind", tape.text("kind", row)],
      ["bytes", formatBytes(tape.rows.bytes[row])],
      tape.text("layer", row) && ["layer", tape.text("layer", row)],
      step >= 0 && ["time step", `${step}${way}`],
      tape.text("line", row) && ["your line", tape.text("line", row)],
      tape.text("equation", row) && ["equation", tape.text("equation", row)],
      used.length && ["parameters", used.map((x) => tape.name(x)).join(", ")],
      !Number.isNaN(tape.shares[row]) && ["share of the gradient", formatShare(tape.shares[row]),
        "When all leaves move along their gradient, this part of the loss's change goes through " +
        "here: 100 % at the loss, 100 % together in every set of rows that all ways pass. It " +
        "can be below 0 or above 100 % where ways cancel each other."],
      tape.rows.merged[row] > 1 && ["shown as one", `${tape.rows.merged[row]} rows`],
    ].filter(Boolean);
  }

  _facts(pairs) {
    const list = element("dl", {});
    for (const pair of pairs.filter(Boolean)) {
      const [name, value, note] = pair;
      list.append(element("dt", {}, name), element("dd", {}, value,
        note ? element("p", { class: "small" }, note) : ""));
    }
    return list;
  }

  _neighbours(row) {
    const tape = this.tape;
    const list = (title, rows) => {
      if (!rows.length) return "";
      const items = rows.slice(0, 24).map((x) => element("li", {},
        this._link(x, `${tape.name(x)}${tape.isLeaf(x) ? "" : ` ${tape.text("op", x)}`}`)));
      if (rows.length > 24) items.push(element("li", {}, `and ${formatCount(rows.length - 24)} more`));
      return element("div", {}, element("h3", {}, title), element("ul", { class: "chips" }, ...items));
    };
    return element("section", { class: "neighbours" },
      list("reads", tape.sources[row]), list("is read by", tape.readers[row]));
  }

  _rule(operation) {
    const box = element("section", {}, element("h3", {}, `What ${operation.name} is, and its gradient rule`));
    if (operation.doc) box.append(element("p", { class: "doc" }, operation.doc.split("\n\n")[1] || operation.doc));
    if (operation.kernel) box.append(element("p", {}, "within a kernel: ", element("code", {}, operation.kernel)));
    for (const { place, source } of operation.rules) {
      box.append(element("p", { class: "small" }, place), element("pre", { tabindex: "0" }, source));
    }
    if (!operation.rules.length) box.append(element("p", {}, "It sends no gradient back."));
    return box;
  }

  // What each use of a leaf adds to its gradient.
  _contributions(row) {
    const uses = this.tape.uses[row];
    if (!uses) return null;
    const tape = this.tape;
    const [rows, norms, shares] = uses;
    const box = element("section", {},
      element("h3", {}, rows.length === 1 ? "What its use adds to the gradient"
        : `What each of its ${formatCount(rows.length)} uses adds to the gradient`));
    if (rows.length > 1) {
      const steps = rows.map((x) => tape.rows.step[x]);
      const byTime = steps.every((t) => t >= 0) && new Set(steps).size === steps.length;
      const positions = byTime ? steps : rows.map((_, k) => k);
      const label = byTime ? "t" : "use, in the order of the forward pass";
      box.append(
        lineChart([{ name: "share", values: shares.map((x) => 100 * x) }], positions,
          { label, unit: "% of the gradient, along it", bars: true }),
        lineChart([{ name: "norm", values: norms, dashed: true }], positions,
          { label, unit: "norm of what it adds" }));
    }
    const table = element("table", { class: "parts" }, element("tr", {},
      ...["by", "t", "norm", "share"].map((x) => element("th", {}, x))));
    rows.slice(0, 200).forEach((x, k) => table.append(element("tr", {},
      element("td", {}, this._link(x, `${tape.name(x)} ${tape.text("op", x)}`)),
      element("td", {}, tape.rows.step[x] >= 0 ? String(tape.rows.step[x]) : "–"),
      element("td", {}, formatNumber(norms[k])),
      element("td", {}, formatShare(shares[k])))));
    const more = rows.length > 200
      ? element("p", { class: "small" }, `The first 200 of ${formatCount(rows.length)}.`) : "";
    box.append(element("p", { class: "small" },
      "The share is how much it adds along the gradient, as a part of that: together 100 %."),
    element("div", { class: "scrolling", tabindex: "0" }, table), more);
    return box;
  }

  _loopButton(loop) {
    return element("p", {}, element("button", {
      type: "button", class: "big", onclick: () => this.stages.openOfTape(loop),
    }, "How this loop is compiled"));
  }
}
