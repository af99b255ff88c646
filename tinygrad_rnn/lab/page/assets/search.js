// Search by name: of values, operations, layers, parameters, lines.

const MOST_FOUND = 60;

class Search {
  constructor(outline, go) {
    Object.assign(this, { outline, go, tape: outline.tape, chosen: 0, found: [] });
    this.field = document.getElementById("search");
    this.list = document.getElementById("found");
    this.field.addEventListener("input", () => this.look());
    this.field.addEventListener("keydown", (event) => this._key(event));
    this.field.addEventListener("blur", () => setTimeout(() => this.close(), 200));
    this.texts = null;
  }

  // Everything that can be found, as lower-case text.
  _all() {
    if (this.texts) return this.texts;
    const { tape, outline } = this;
    const columns = ["name", "op", "layer", "line", "equation", "params"];
    const parts = outline.parts.filter((part) => !["tape", "step", "part"].includes(part.kind));
    this.texts = parts.map((part) => ({ target: part, text: part.title.toLowerCase() }));
    for (let row = 0; row < tape.count; row++) {
      const words = [`%${row}`, ...columns.map((column) => tape.text(column, row))];
      this.texts.push({ target: row, text: words.join(" ").toLowerCase() });
    }
    return this.texts;
  }

  look() {
    const words = this.field.value.toLowerCase().split(/\s+/).filter(Boolean);
    this.found = [];
    let count = 0;
    if (words.length) {
      for (const { target, text } of this._all()) {
        if (words.every((word) => text.includes(word))) {
          count += 1;
          if (this.found.length < MOST_FOUND) this.found.push(target);
        }
      }
    }
    this.chosen = 0;
    this._draw(words.length ? count : -1);
  }

  _draw(count) {
    this.list.hidden = count < 0;
    this.field.setAttribute("aria-expanded", String(count >= 0));
    this.list.replaceChildren(...this.found.map((target, k) => element("li", {
      role: "option",
      "aria-selected": String(k === this.chosen),
      onpointerdown: (event) => {
        event.preventDefault();
        this._take(k);
      },
    }, this._name(target), element("small", {}, this._place(target)))));
    const text = count > this.found.length
      ? `${formatCount(count)} found, the first ${MOST_FOUND} shown` : count === 0 ? "nothing found" : "";
    if (text) this.list.append(element("li", { class: "small", "aria-disabled": "true" }, text));
  }

  _name(target) {
    if (target instanceof Part) return target.title;
    const { tape } = this;
    return tape.isLeaf(target) ? tape.name(target) : `${tape.name(target)} ${tape.text("op", target)}`;
  }

  _place(target) {
    return this.outline.trail(target).map((part) => part.title).join(" › ");
  }

  _key(event) {
    if (event.key === "Escape") {
      this.field.value = "";
      this.close();
      document.getElementById("tree").focus();
    } else if (event.key === "Enter") this._take(this.chosen);
    else if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      const way = event.key === "ArrowDown" ? 1 : -1;
      this.chosen = Math.max(0, Math.min(this.found.length - 1, this.chosen + way));
      const options = this.list.querySelectorAll("[role=option]");
      options.forEach((option, k) => option.setAttribute("aria-selected", String(k === this.chosen)));
      options[this.chosen]?.scrollIntoView({ block: "nearest" });
      event.preventDefault();
    }
  }

  _take(k) {
    if (k >= this.found.length) return;
    this.close();
    this.go(this.found[k]);
    document.getElementById("tree").focus();
  }

  close() {
    this.list.hidden = true;
    this.field.setAttribute("aria-expanded", "false");
  }
}
