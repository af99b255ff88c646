// The content of the page, decoded: rows of the tape, what was measured of their arrays.

function bytesOf(text) {
  const raw = atob(text);
  const bytes = new Uint8Array(raw.length);
  for (let k = 0; k < raw.length; k++) bytes[k] = raw.charCodeAt(k);
  return bytes.buffer;
}

// Starts of the parts whose sizes are given, with the end of the last one.
function startsOf(sizes) {
  const starts = new Uint32Array(sizes.length + 1);
  for (let k = 0; k < sizes.length; k++) starts[k + 1] = starts[k] + sizes[k];
  return starts;
}

const SCALE = 32000;
const NAN = -32768;
const INFINITE = 32767;

// Measures and samples of many arrays.
class Measured {
  constructor(data) {
    this.numbers = new Float64Array(bytesOf(data.numbers));
    this.zeros = new Float32Array(bytesOf(data.zeros));
    this.strange = data.strange;
    this.starts = startsOf(new Uint16Array(bytesOf(data.sizes)));
    this.samples = new Int16Array(bytesOf(data.samples));
    this.shape = data.shape;
    this.shapes = data.shapes;
  }

  // min, mean, max, norm, share of zeros, counts of NaN and infinities; null where none is known.
  of(k) {
    const strange = this.strange[k];
    const [min, mean, max, norm] = this.numbers.subarray(4 * k, 4 * k + 4);
    if (Number.isNaN(norm) && !strange) return null;
    const [nan, infinite] = strange || [0, 0];
    return { min, mean, max, norm, zeros: this.zeros[k], nan, infinite };
  }

  norm(k) {
    return this.numbers[4 * k + 3];
  }

  // The elements that are in this file, and their shape; null where there are none.
  sample(k) {
    const [from, to] = [this.starts[k], this.starts[k + 1]];
    if (from === to) return null;
    const [min, , max] = this.numbers.subarray(4 * k, 4 * k + 3);
    const largest = Math.max(Math.abs(min), Math.abs(max)) || 0;
    const values = Float64Array.from(this.samples.subarray(from, to), (x) => {
      if (x === NAN) return NaN;
      if (Math.abs(x) === INFINITE) return x > 0 ? Infinity : -Infinity;
      return (x / SCALE) * largest;
    });
    return { values, shape: this.shapes[this.shape[k]], largest };
  }
}

// The rows of a tape: leaves and records in the order of the forward pass.
class TapeData {
  constructor(data) {
    Object.assign(this, data);
    this.count = data.rows.op.length;
    this.first = startsOf(data.rows.results);
    this.values = new Measured(data.values);
    this.cotangents = new Measured(data.cotangents);
    this.shares = new Float64Array(bytesOf(data.shares));
    // Of each row, the rows that it reads and those that read it, each of them once.
    this.sources = data.rows.inputs.map((inputs) => {
      const found = inputs.map((x) => (Array.isArray(x) ? x[0] : x));
      return [...new Set(found.filter((x) => typeof x === "number"))];
    });
    this.readers = Array.from({ length: this.count }, () => []);
    this.sources.forEach((found, row) => found.forEach((x) => this.readers[x].push(row)));
  }

  operation(row) {
    return this.operations[this.rows.op[row]];
  }

  text(column, row) {
    if (column === "op") return this.isLeaf(row) ? "" : this.operation(row).name;
    const number = this.rows[column][row];
    return number < 0 ? "" : this.texts[number];
  }

  isLeaf(row) {
    return this.rows.op[row] < 0;
  }

  name(row) {
    return this.text("name", row) || `%${row}`;
  }

  source(x) {
    if (typeof x === "string") return x;
    return Array.isArray(x) ? `${this.name(x[0])}.${x[1]}` : this.name(x);
  }

  // The line as the printed tape has it: operation(operands, parameters).
  call(row) {
    const params = this.text("params", row);
    if (this.isLeaf(row)) return params || "leaf";
    let inputs = this.rows.inputs[row].map((x) => this.source(x));
    if (inputs.length > 8) inputs = [inputs[0], inputs[1], "...", inputs[inputs.length - 1]];
    return `${this.text("op", row)}(${[...inputs, params].filter(Boolean).join(", ")})`;
  }

  // The root of the sum of the squares of all elements of a row's arrays.
  norm(measured, row) {
    let sum = 0;
    for (let k = this.first[row]; k < this.first[row + 1]; k++) {
      const norm = measured.norm(k);
      if (!Number.isNaN(norm)) sum += norm * norm;
    }
    return Math.sqrt(sum);
  }

  hasAny(measured, row) {
    for (let k = this.first[row]; k < this.first[row + 1]; k++) {
      if (!Number.isNaN(measured.norm(k)) || measured.strange[k]) return true;
    }
    return false;
  }

  isStrange(measured, row) {
    for (let k = this.first[row]; k < this.first[row + 1]; k++) {
      if (measured.strange[k]) return true;
    }
    return false;
  }
}
