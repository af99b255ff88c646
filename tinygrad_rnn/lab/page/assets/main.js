// The page put together.

const CONTENT = JSON.parse(document.getElementById("content").textContent);

function setTheme(dark) {
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  document.getElementById("theme").setAttribute("aria-pressed", String(dark));
}

function startTheme(redraw) {
  const asked = window.matchMedia("(prefers-color-scheme: dark)");
  setTheme(asked.matches);
  asked.addEventListener("change", () => {
    setTheme(asked.matches);
    redraw();
  });
  document.getElementById("theme").addEventListener("click", () => {
    setTheme(document.documentElement.dataset.theme !== "dark");
    redraw();
  });
}

function startTape(content, stages) {
  const tape = new TapeData(content);
  const clock = new Clock(tape);
  const outline = new Outline(tape);
  let details = null;
  const tree = new Tree(outline, clock, {
    selected: (target) => details?.show(target),
    folded: () => {},
  });
  const go = (target) => tree.select(target, { reveal: true });
  details = new Details(outline, clock, go, stages);
  const stepper = new Stepper(clock, tree, (row) => details.show(row < 0 ? null : row));
  new Search(outline, go);
  document.getElementById("fold-all").addEventListener("click", () => tree.foldAll());
  document.getElementById("open-level").addEventListener("click", () => tree.openLevel());
  document.addEventListener("keydown", (event) => {
    if (document.body.classList.contains("with-stages")) return;
    if (event.target.matches("input[type=search]") || event.ctrlKey || event.metaKey || event.altKey) return;
    const action = {
      ".": () => stepper.by(1), ",": () => stepper.by(-1),
      ">": () => stepper.byLine(1), "<": () => stepper.byLine(-1),
      " ": () => stepper.play(), "/": () => document.getElementById("search").focus(),
    }[event.key];
    if (!action || (event.key === " " && event.target.closest("button, summary"))) return;
    if (event.key !== " ") stepper.stop();
    action();
    event.preventDefault();
  });
  const gradient = content.gradient === null ? "" : `, gradient of norm ${formatNumber(content.gradient)}`;
  document.getElementById("totals").textContent =
    `${formatCount(content.records)} records, ${formatBytes(content.bytes)} of results${gradient}`;
  document.getElementById("notes").append(...content.notes.map((note) => element("li", {}, note)));
  tree.select(outline.lines.length > 1 ? tree.target(Math.min(1, outline.lines.length - 1)) : null);
  return () => {
    tree.draw();
    details.show(details.target);
  };
}

function start() {
  const stages = new Stages(CONTENT.loops, CONTENT.stages_of);
  let redraw = () => {};
  if (CONTENT.tape) redraw = startTape(CONTENT.tape, stages);
  else {
    document.body.classList.add("program");
    stages.open(0);
  }
  startTheme(() => redraw());
  redraw();
  document.documentElement.dataset.ready = "true";
}

start();
