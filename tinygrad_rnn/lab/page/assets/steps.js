// The clock of the page: how far the forward and the backward pass have come.

class Clock {
  // Position p of a tape of n rows: p <= n values are there; from n on, cotangents too, from the
  // last row back.
  constructor(tape) {
    this.tape = tape;
    this.outline = null;
    this.end = tape.backwards ? 2 * tape.count : tape.count;
    this.position = this.end;
    this.ranges = {};
  }

  // The row that the pass has come to, -1 before the first.
  get current() {
    const n = this.tape.count;
    return this.position <= n ? this.position - 1 : 2 * n - this.position;
  }

  get isBackwards() {
    return this.position > this.tape.count;
  }

  hasArrived(row, kind) {
    const n = this.tape.count;
    return kind === "values" ? row < this.position : this.position > n && row >= 2 * n - this.position;
  }

  // The norm of what is there of a row or a part; null where nothing is.
  norm(target, kind) {
    const measured = this.tape[kind];
    if (!(target instanceof Part)) {
      if (!this.hasArrived(target, kind) || !this.tape.hasAny(measured, target)) return null;
      return this.tape.norm(measured, target);
    }
    const [first, last] = [target.first, target.last];
    if (this.hasArrived(first, kind) && this.hasArrived(last, kind)) {
      return target[kind] > 0 || kind === "values" ? Math.sqrt(target[kind]) : null;
    }
    if (!this.hasArrived(kind === "values" ? first : last, kind)) return null;
    return Math.sqrt(this._partly(target, kind));
  }

  // Whether NaN or infinities are in what is there of a row or a part.
  isStrange(target, kind) {
    if (!(target instanceof Part)) return this.tape.isStrange(this.tape[kind], target);
    return target.strange[kind].some((row) => this.hasArrived(row, kind));
  }

  _partly(part, kind) {
    let sum = 0;
    for (const item of part.items) {
      if (item instanceof Part) sum += (this.norm(item, kind) || 0) ** 2;
      else if (this.hasArrived(item, kind)) sum += this.tape.norm(this.tape[kind], item) ** 2;
    }
    return sum;
  }

  // The logarithms of the least and the largest norm of all rows, between which bars are drawn.
  range(kind) {
    if (!this.ranges[kind]) {
      let [min, max] = [Infinity, -Infinity];
      for (let row = 0; row < this.tape.count; row++) {
        const norm = this.tape.norm(this.tape[kind], row);
        if (norm > 0 && Number.isFinite(norm)) {
          min = Math.min(min, Math.log10(norm));
          max = Math.max(max, Math.log10(norm));
        }
      }
      this.ranges[kind] = { min, max };
    }
    return this.ranges[kind];
  }
}

// The buttons and the slider by which the clock is moved.
class Stepper {
  constructor(clock, tree, moved) {
    Object.assign(this, { clock, tree, moved, timer: null });
    this.slider = document.getElementById("time");
    this.slider.max = clock.end;
    this.label = document.getElementById("time-label");
    this.slider.addEventListener("input", () => this.to(Number(this.slider.value)));
    const buttons = {
      "time-start": () => this.to(0),
      "time-line-back": () => this.byLine(-1),
      "time-back": () => this.by(-1),
      "time-play": () => this.play(),
      "time-on": () => this.by(1),
      "time-line-on": () => this.byLine(1),
      "time-end": () => this.to(clock.end),
    };
    for (const [id, action] of Object.entries(buttons)) {
      document.getElementById(id).addEventListener("click", () => {
        if (id !== "time-play") this.stop();
        action();
      });
    }
    this.describe();
  }

  to(position) {
    this.clock.position = Math.max(0, Math.min(this.clock.end, position));
    this.describe();
    const row = this.clock.current;
    if (row >= 0) this.tree.select(row, { quiet: true });
    else this.tree.draw();
    this.moved(row);
  }

  by(count) {
    this.to(this.clock.position + count);
  }

  // Go on, or back, to the next line: all rows of a folded part at once.
  byLine(way) {
    const { clock } = this;
    const { lineOf } = this.tree.outline;
    const lineAt = (position) => {
      const n = clock.tape.count;
      const row = position <= n ? position - 1 : 2 * n - position;
      return [position > n, row < 0 ? -1 : lineOf[row]].join();
    };
    let position = clock.position + way;
    if (way > 0) {
      while (position < clock.end && lineAt(position + 1) === lineAt(position)) position += 1;
    } else {
      while (position > 0 && lineAt(position) === lineAt(clock.position)) position -= 1;
    }
    this.to(position);
  }

  play() {
    if (this.timer) return this.stop();
    if (this.clock.position >= this.clock.end) this.to(0);
    document.getElementById("time-play").textContent = "❚❚";
    this.timer = setInterval(() => {
      this.byLine(1);
      if (this.clock.position >= this.clock.end) this.stop();
    }, 180);
    return undefined;
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    document.getElementById("time-play").textContent = "▶";
  }

  describe() {
    const { position, end, isBackwards, tape } = this.clock;
    this.slider.value = position;
    const n = tape.count;
    let text = `forward ${formatCount(position)} of ${formatCount(n)}`;
    if (isBackwards) text = `backward ${formatCount(position - n)} of ${formatCount(n)}`;
    if (position === end) text = tape.backwards ? "both passes done" : "forward pass done";
    if (position === 0) text = "nothing computed yet";
    this.label.textContent = text;
    this.slider.setAttribute("aria-valuetext", text);
  }
}
