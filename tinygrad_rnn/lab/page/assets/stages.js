// How a step becomes kernels: the program after each pass, and in each the lines of one equation.

class Stages {
  // Each of `loops` has the step as traced, and the ways (forward, backward) with their stages;
  // `numbers` say which are those of a loop of the tape.
  constructor(loops, numbers) {
    Object.assign(this, { loops, numbers });
    this.box = document.getElementById("stages");
    this.opened = -1;
    this.box.addEventListener("keydown", (event) => this._key(event));
  }

  openOfTape(loop) {
    this.open(this.numbers[loop]);
  }

  open(number) {
    this.opened = number;
    this.loop = this.loops[number];
    this.way = 0;
    this.stage = 0;
    this.equation = -1;
    this.box.hidden = false;
    document.body.classList.add("with-stages");
    this._draw();
    this.box.querySelector("[role=tab][aria-selected=true]").focus({ preventScroll: true });
  }

  close() {
    this.box.hidden = true;
    document.body.classList.remove("with-stages");
    document.getElementById("tree").focus();
  }

  _draw() {
    const { loop } = this;
    const isAlone = document.body.classList.contains("program");
    this.box.replaceChildren(
      element("div", { class: "stages-head" },
        element("h2", {}, this.loops.length > 1 ? "" : loop.title, this._loops()),
        isAlone ? "" : element("button", {
          type: "button", class: "close", onclick: () => this.close(),
        }, "back to the tape")),
      element("div", { class: "stages-body" }, this._equations(), this._passes()),
    );
  }

  _loops() {
    if (this.loops.length < 2) return "";
    return element("select", {
      "aria-label": "the loop", onchange: (event) => this.open(Number(event.target.value)),
    }, ...this.loops.map((loop, k) =>
      element("option", { value: String(k), selected: k === this.opened }, loop.title)));
  }

  // The lines of the step as traced, to be followed through the passes.
  _equations() {
    const { traced, origins } = this.loop;
    const list = element("ol", { class: "equations", start: "0" });
    const rows = traced.sections.flatMap((section) => section.rows);
    const numbered = new Map();
    for (const row of rows) if (row.equations.length) numbered.set(row.equations[0], row);
    for (const [number, row] of numbered) {
      const origin = origins[number];
      const button = element("button", {
        type: "button", "aria-pressed": String(number === this.equation),
        onclick: () => this._follow(number),
      }, element("code", {}, row.text));
      if (origin && origin.code) button.append(element("small", {}, origin.code));
      list.append(element("li", { value: String(number) }, button));
    }
    return element("section", { class: "traced" },
      element("h3", {}, "The step as traced"),
      element("p", { class: "small" }, `${traced.about} Choose a line to follow it.`), list);
  }

  _follow(number) {
    this.equation = this.equation === number ? -1 : number;
    const { scrollTop } = this.box.querySelector(".traced");
    this._draw();
    this.box.querySelector(".traced").scrollTop = scrollTop;
    this.box.querySelector(".equations [aria-pressed=true]")?.focus({ preventScroll: true });
    this._showHit();
  }

  _showHit() {
    this.box.querySelector(".passes .hit")?.scrollIntoView({ block: "center" });
  }

  _passes() {
    const { ways } = this.loop;
    const { stages } = ways[this.way];
    const box = element("section", { class: "passes" });
    if (ways.length > 1) {
      box.append(element("div", { class: "views ways", role: "group" }, ...ways.map((way, k) =>
        element("button", {
          type: "button", "aria-pressed": String(k === this.way), onclick: () => this._to(k, 0),
        }, way.title))));
    }
    box.append(element("div", { class: "tabs", role: "tablist", "aria-label": "passes" },
      ...stages.map((stage, k) => this._tab(stage, k))));
    box.append(...this._stage(stages[this.stage]));
    return box;
  }

  _tab(stage, k) {
    const hits = this._hits(stage);
    return element("button", {
      type: "button", role: "tab", "aria-selected": String(k === this.stage),
      tabindex: k === this.stage ? "0" : "-1", onclick: () => this._to(this.way, k),
    }, `${k + 1}. ${stage.name}`, hits ? element("span", { class: "hits" }, ` ${hits} ★`) : "");
  }

  _hits(stage) {
    if (this.equation < 0) return 0;
    const rows = stage.sections.flatMap((section) => section.rows);
    return rows.filter((row) => this._isHit(row)).length;
  }

  _isHit(row) {
    return this.equation >= 0 && row.equations.includes(this.equation);
  }

  _to(way, stage) {
    this.way = way;
    this.stage = stage;
    const { scrollTop } = this.box.querySelector(".traced");
    this._draw();
    this.box.querySelector(".traced").scrollTop = scrollTop;
    this.box.querySelector("[role=tab][aria-selected=true]").focus({ preventScroll: true });
    this._showHit();
  }

  _stage(stage) {
    const parts = [element("p", { class: "about" }, stage.about)];
    for (const note of stage.notes) parts.push(element("p", { class: "note" }, note));
    if (stage.moves.length) {
      parts.push(element("h3", {}, "What moved"), this._table(stage.moves));
    }
    for (const section of stage.sections) {
      if (!section.rows.length) continue;
      if (section.title) parts.push(element("h3", {}, section.title));
      parts.push(this._table(section.rows));
    }
    return parts;
  }

  _table(rows) {
    const table = element("table", { class: "lines" });
    for (const row of rows) {
      table.append(element("tr", { class: this._isHit(row) ? "hit" : null },
        element("td", { class: "mark" }, this._isHit(row) ? "★" : ""),
        element("td", { class: "made-of" }, spans(row.equations)),
        element("td", {}, element("pre", {}, row.text),
          row.why ? element("p", { class: "small" }, row.why) : "")));
    }
    return element("div", { class: "scrolling whole" }, table);
  }

  _key(event) {
    if (event.key === "Escape" && !document.body.classList.contains("program")) this.close();
    const way = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!way || event.target.getAttribute("role") !== "tab") return;
    const count = this.loop.ways[this.way].stages.length;
    this._to(this.way, (this.stage + way + count) % count);
    event.preventDefault();
  }
}

// Numbers in short: 0–2, 4.
function spans(numbers) {
  const runs = [];
  for (const n of numbers) {
    const last = runs[runs.length - 1];
    if (last && last[1] === n - 1) last[1] = n;
    else runs.push([n, n]);
  }
  return runs.map(([a, b]) => (a === b ? `${a}` : `${a}–${b}`)).join(", ");
}
