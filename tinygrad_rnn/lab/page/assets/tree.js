// The outline on the screen: the lines that are in view, to be folded by click and by keyboard.

const LINE_HEIGHT = 30;

class Tree {
  // `listener` has selected(target) and folded(), where a target is a Part or the number of a row.
  constructor(outline, clock, listener) {
    Object.assign(this, { outline, clock, listener, tape: outline.tape });
    this.selected = null;
    this.box = document.getElementById("tree");
    this.inner = document.getElementById("tree-lines");
    this.wires = new Wires(this);
    this.box.addEventListener("scroll", () => this.draw());
    this.box.addEventListener("keydown", (event) => this._key(event));
    this.box.addEventListener("click", (event) => this._click(event));
    new ResizeObserver(() => this.draw()).observe(this.box);
    this.refold();
  }

  // Show the outline as it is folded now.
  refold() {
    this.inner.style.height = `${this.outline.lines.length * LINE_HEIGHT}px`;
    this.wires.changed();
    this.draw();
    this.listener.folded();
  }

  lineOf(target) {
    if (target === null) return -1;
    if (!(target instanceof Part)) return this.outline.lineOf[target];
    let part = target;
    while (part && !this.outline.lineOfPart.has(part)) part = part.above;
    return part ? this.outline.lineOfPart.get(part) : -1;
  }

  target(line) {
    const { part, row } = this.outline.lines[line];
    return part || row;
  }

  select(target, { reveal = false, quiet = false } = {}) {
    if (reveal && this.lineOf(target) < 0 ||
        reveal && this.target(this.lineOf(target)) !== target) {
      this.outline.reveal(target);
      this.refold();
    }
    this.selected = target;
    this.show(this.lineOf(target));
    this.draw();
    if (!quiet) this.listener.selected(target);
  }

  // Scroll as little as is needed to have a line in view.
  show(line) {
    if (line < 0) return;
    const top = line * LINE_HEIGHT;
    const { scrollTop, clientHeight } = this.box;
    if (top < scrollTop) this.box.scrollTop = top;
    else if (top + LINE_HEIGHT > scrollTop + clientHeight) {
      this.box.scrollTop = top + LINE_HEIGHT - clientHeight;
    }
  }

  toggle(part, open = !part.open) {
    if (part.open === open) return;
    part.open = open;
    this.outline.changed();
    this.refold();
  }

  foldAll() {
    for (const part of this.outline.parts) part.open = part === this.outline.whole;
    this.outline.changed();
    this.refold();
  }

  // Open everything that is visible and folded, but for the leaves, one level deep.
  openLevel() {
    for (const { part } of this.outline.lines) {
      if (part && !part.open && part.kind !== "leaves") part.open = true;
    }
    this.outline.changed();
    this.refold();
  }

  draw() {
    const { lines } = this.outline;
    const from = Math.max(0, Math.floor(this.box.scrollTop / LINE_HEIGHT) - 3);
    const to = Math.min(
      lines.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / LINE_HEIGHT) + 3,
    );
    const chosen = this.lineOf(this.selected);
    this.inner.replaceChildren();
    for (let k = from; k < to; k++) this.inner.append(this._line(k, chosen === k));
    this.box.setAttribute("aria-activedescendant", chosen < 0 ? "" : `line-${chosen}`);
    this.wires.draw(from, to, chosen);
  }

  _line(k, chosen) {
    const { part, row, depth } = this.outline.lines[k];
    const line = element("div", {
      class: `line ${part ? part.kind : "row"}${chosen ? " chosen" : ""}`,
      id: `line-${k}`,
      role: "treeitem",
      "aria-level": depth + 1,
      "aria-selected": chosen ? "true" : "false",
      "aria-expanded": part ? String(part.open) : null,
      "data-line": k,
      style: `top:${k * LINE_HEIGHT}px;--depth:${Math.min(depth, 8)}`,
    });
    if (part) this._fillPart(line, part);
    else this._fillRow(line, row);
    return line;
  }

  _fillPart(line, part) {
    const many = part.merged > 1 ? ` (${part.merged} as one)` : "";
    const what = part.kind === "leaves"
      ? formatCount(part.items.length)
      : `${formatCount(part.records)} ${part.isReplayed ? "op." : "rec."} ${formatBytes(part.bytes)}`;
    line.append(
      element("span", { class: "label" },
        element("span", { class: "fold", "aria-hidden": "true" }, part.open ? "▾" : "▸"),
        element("b", {}, part.title + many),
        element("span", { class: "what" }, what)),
      this._cell(part, "values"),
      this._cell(part, "cotangents"),
    );
  }

  _fillRow(line, row) {
    const tape = this.tape;
    line.append(
      element("span", { class: "label" },
        element("span", { class: "name" }, tape.name(row)),
        element("code", { class: "call" }, tape.isLeaf(row) ? "" : tape.call(row)),
        element("span", { class: "what" }, shortKind(tape.text("kind", row)))),
      this._cell(row, "values"),
      this._cell(row, "cotangents"),
    );
    if (row === this.clock.current) line.classList.add("current");
  }

  // What has arrived: over the steps of a loop as a curve, else as a bar and a number.
  _cell(target, kind) {
    const back = kind === "cotangents";
    const cell = element("span", { class: back ? "cell back" : "cell" });
    if (back && !this.tape.backwards) return cell;
    const strange = this.clock.isStrange(target, kind);
    if (!strange && target instanceof Part && target.isOfSteps && target.steps.length > 1 && !target.open) {
      const norms = target.steps.map((step) => this.clock.norm(step, kind));
      cell.append(sparkline(norms, back));
      return cell;
    }
    const norm = this.clock.norm(target, kind);
    if (norm === null) return cell;
    const range = this.clock.range(kind);
    const width = norm > 0 && range.max > range.min
      ? 6 + 94 * (Math.log10(norm) - range.min) / (range.max - range.min) : norm > 0 ? 100 : 0;
    cell.append(
      norm > 0
        ? element("i", { class: "bar", style: `width:${Math.max(0, Math.min(100, width))}%` }) : "",
      element("span", { class: "number" }, strange ? "nan / inf" : formatNumber(norm)),
    );
    if (strange) cell.classList.add("strange");
    return cell;
  }

  _click(event) {
    const found = event.target.closest(".line");
    if (!found) return;
    const target = this.target(Number(found.dataset.line));
    this.select(target);
    if (target instanceof Part) this.toggle(target);
    this.box.focus({ preventScroll: true });
  }

  _key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const { lines } = this.outline;
    const line = this.lineOf(this.selected);
    const target = line < 0 ? null : this.target(line);
    const page = Math.max(1, Math.floor(this.box.clientHeight / LINE_HEIGHT) - 1);
    const move = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page }[event.key];
    if (move) this._go(Math.max(0, Math.min(lines.length - 1, line + move)));
    else if (event.key === "Home") this._go(0);
    else if (event.key === "End") this._go(lines.length - 1);
    else if (event.key === "ArrowRight" && target instanceof Part) {
      if (target.open) this._go(line + 1);
      else this.toggle(target, true);
    } else if (event.key === "ArrowLeft" && target !== null) {
      const above = target instanceof Part ? target.above : this.outline.partOf[target];
      if (target instanceof Part && target.open) this.toggle(target, false);
      else if (above && above !== this.outline.whole) this.select(above);
    } else if (event.key === "Enter" && target instanceof Part) this.toggle(target);
    else return;
    event.preventDefault();
  }

  _go(line) {
    this.select(this.target(line));
  }
}
