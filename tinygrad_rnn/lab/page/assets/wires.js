// The edges of the graph, drawn beside the lines: from what is read to what reads it.

const MOST_WIRES = 300;

class Wires {
  constructor(tree) {
    this.tree = tree;
    this.box = document.getElementById("wires");
    this.edges = [];
  }

  changed() {
    const leaves = new Set();
    this.tree.outline.lines.forEach(({ part, row }, k) => {
      if (part ? part.kind === "leaves" : this.tree.tape.isLeaf(row)) leaves.add(k);
    });
    this.edges = this.tree.outline.edges();
    for (const edge of this.edges) edge.isOfLeaf = leaves.has(edge.from);
  }

  // Draw what begins or ends between two lines; of leaves, which everything reads, what concerns
  // the chosen line.
  draw(from, to, chosen) {
    const shown = this.edges.filter((edge) => {
      if (edge.from === chosen || edge.to === chosen) return true;
      if (edge.isOfLeaf) return false;
      return (edge.from >= from && edge.from < to) || (edge.to >= from && edge.to < to);
    });
    shown.sort((a, b) => this._weight(a, chosen) - this._weight(b, chosen));
    const { scrollTop, clientHeight } = this.tree.box;
    const width = this.box.clientWidth || 64;
    this.box.setAttribute("viewBox", `0 0 ${width} ${clientHeight}`);
    this.box.replaceChildren(
      ...shown.slice(-MOST_WIRES).map((edge) => this._wire(edge, chosen, scrollTop, width)),
    );
  }

  _weight(edge, chosen) {
    if (edge.from === chosen || edge.to === chosen) return 1e9;
    return -Math.abs(edge.to - edge.from);
  }

  _wire(edge, chosen, top, width) {
    const [y1, y2] = [edge.from, edge.to].map((k) => (k + 0.5) * LINE_HEIGHT - top);
    const span = Math.abs(edge.to - edge.from);
    const out = width - 5 - Math.min(width - 10, 8 + 9 * Math.log2(span));
    const x = width - 5;
    const kind = edge.to === chosen ? "in" : edge.from === chosen ? "out" : "other";
    const [a, b] = y1 < y2 ? [y1 + 3, y2 - 3] : [y1 - 3, y2 + 3];
    const group = svgElement("g", { class: `wire ${kind}` });
    group.append(
      svgElement("path", { d: `M ${x} ${a} C ${out} ${a} ${out} ${b} ${x} ${b}` }),
      svgElement("path", { class: "head", d: `M ${x + 4} ${b} l -6 -3.5 v 7 z` }),
    );
    group.append(svgElement("title", {}, `${edge.values} ${edge.values === 1 ? "value" : "values"}`));
    return group;
  }
}
