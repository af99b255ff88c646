// The tape as a tree that is folded: which of its parts are open, and what is visible then.

class Part {
  constructor(data, above) {
    this.title = data.title;
    this.kind = data.kind;
    this.merged = data.merged || 1;
    this.loop = data.loop === undefined ? -1 : data.loop;
    this.above = above;
    this.depth = above ? above.depth + 1 : 0;
    this.open = false;
    this.items = data.items.map((x) => (typeof x === "number" ? x : new Part(x, this)));
  }

  // Whether its rows are operations of a replayed loop, which are no records of the tape.
  get isReplayed() {
    return Boolean(this.above) && (this.above.kind === "replayed" || this.above.isReplayed);
  }

  get isOfSteps() {
    return ["loop", "repeat", "replayed"].includes(this.kind);
  }

  // The parts that are its time steps or repetitions.
  get steps() {
    return this.items.filter((x) => x instanceof Part && ["step", "part"].includes(x.kind));
  }
}

class Outline {
  constructor(tape) {
    this.tape = tape;
    this.whole = new Part({ title: "tape", kind: "tape", items: tape.outline }, null);
    for (const item of this.whole.items) if (item instanceof Part) item.depth = 0;
    this.whole.open = true;
    this.partOf = new Array(tape.count); // the part in which a row is
    this.parts = [];
    this._settle(this.whole, 0);
    this._openFirst();
    this.changed();
  }

  _settle(part, depth) {
    part.depth = depth;
    part.number = this.parts.length;
    this.parts.push(part);
    Object.assign(part, { records: 0, bytes: 0, first: Infinity, last: -1, values: 0, cotangents: 0 });
    part.strange = { values: [], cotangents: [] }; // rows with NaN or infinities
    const tape = this.tape;
    for (const item of part.items) {
      if (item instanceof Part) {
        this._settle(item, depth + 1);
        part.records += item.records;
        part.bytes += item.bytes;
        part.first = Math.min(part.first, item.first);
        part.last = Math.max(part.last, item.last);
        part.values += item.values;
        part.cotangents += item.cotangents;
        for (const kind in part.strange) part.strange[kind] = part.strange[kind].concat(item.strange[kind]);
      } else {
        this.partOf[item] = part;
        if (!tape.isLeaf(item)) {
          part.records += tape.rows.merged[item];
          part.bytes += tape.rows.bytes[item] * tape.rows.merged[item];
        }
        part.first = Math.min(part.first, item);
        part.last = Math.max(part.last, item);
        part.values += tape.norm(tape.values, item) ** 2;
        part.cotangents += tape.norm(tape.cotangents, item) ** 2;
        for (const kind of ["values", "cotangents"]) {
          if (tape.isStrange(tape[kind], item)) part.strange[kind].push(item);
        }
      }
    }
    if (part.kind === "replayed") { // its operations are no records of the tape
      const row = part.items[part.items.length - 1];
      part.records = 1;
      part.bytes = tape.rows.bytes[row];
    }
  }

  // Open what leaves the whole small enough to be seen at once.
  _openFirst() {
    let level = [this.whole];
    while (level.length) {
      const below = level.flatMap((part) => part.items)
        .filter((x) => x instanceof Part && !x.isOfSteps && x.kind !== "leaves");
      const inside = below.reduce((sum, part) => sum + part.items.length, 0);
      if (inside > 40) return;
      for (const part of below) part.open = true;
      level = below.filter((part) => part.open);
    }
  }

  // Find out anew what is visible: lines with a part or a row, and the line of each row.
  changed() {
    this.lines = [];
    this.lineOf = new Int32Array(this.tape.count).fill(-1);
    this.lineOfPart = new Map();
    this._show(this.whole);
  }

  _show(part) {
    for (const item of part.items) {
      if (item instanceof Part) {
        this.lineOfPart.set(item, this.lines.length);
        this.lines.push({ part: item, row: -1, depth: item.depth - 1 });
        if (item.open) this._show(item);
        else this._cover(item, this.lines.length - 1);
      } else {
        this.lineOf[item] = this.lines.length;
        this.lines.push({ part: null, row: item, depth: part.depth });
      }
    }
  }

  // All rows within a folded part are on its line.
  _cover(part, line) {
    for (const item of part.items) {
      if (item instanceof Part) this._cover(item, line);
      else this.lineOf[item] = line;
    }
  }

  // Open every part around a row, or around a part.
  reveal(target) {
    let part = target instanceof Part ? target.above : this.partOf[target];
    for (; part; part = part.above) part.open = true;
    this.changed();
  }

  // Which rows say the same as one at the other steps of the innermost loop around it, in order.
  series(row) {
    const path = [];
    let item = row;
    let part = this.partOf[row];
    while (part && !["step", "part"].includes(part.kind)) {
      path.unshift(part.items.indexOf(item));
      item = part;
      part = part.above;
    }
    if (!part || !part.above) return [];
    path.unshift(part.items.indexOf(item));
    const operation = this.tape.rows.op[row];
    const found = [];
    for (const step of part.above.steps) {
      let at = step;
      for (const k of path) at = at instanceof Part ? at.items[k] : undefined;
      if (typeof at === "number" && this.tape.rows.op[at] === operation) found.push(at);
    }
    return found;
  }

  // Where a row or a part is: the titles of what is around it.
  trail(target) {
    const titles = [];
    let part = target instanceof Part ? target.above : this.partOf[target];
    for (; part && part !== this.whole; part = part.above) titles.unshift(part);
    return titles;
  }

  // The edges between lines: how many values go from one to another.
  edges() {
    const found = new Map();
    const count = this.lines.length;
    for (let row = 0; row < this.tape.count; row++) {
      const to = this.lineOf[row];
      for (const source of this.tape.sources[row]) {
        const from = this.lineOf[source];
        if (from !== to && from >= 0) {
          const key = from * count + to;
          found.set(key, (found.get(key) || 0) + 1);
        }
      }
    }
    return [...found].map(([key, values]) => ({
      from: Math.floor(key / count), to: key % count, values,
    }));
  }
}
