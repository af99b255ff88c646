// Numbers and elements as people read them.

function formatNumber(x, digits = 3) {
  if (x === null || x === undefined) return "–";
  if (Number.isNaN(x)) return "nan";
  if (!Number.isFinite(x)) return x > 0 ? "inf" : "−inf";
  if (x === 0) return "0";
  const size = Math.abs(x);
  const text = size >= 1e5 || size < 1e-3
    ? x.toExponential(digits - 1)
    : String(Number(x.toPrecision(digits)));
  return text.replace("-", "−").replace("e-", "e−").replace("e+", "e");
}

// Equal kinds of several results as one: 4 × float32 (2, 3).
function shortKind(text) {
  const kinds = text.split(" / ");
  const same = kinds.every((kind) => kind === kinds[0]);
  if (kinds.length === 1) return text;
  return same ? `${kinds.length} × ${kinds[0]}` : `${kinds[0]} / ... ${kinds.length} results`;
}

// A power of ten without its zeros: 1e−5.
function formatTick(x) {
  return formatNumber(x).replace(/\.0+e/, "e");
}

function formatCount(n) {
  return n.toLocaleString("en");
}

function formatBytes(count) {
  let size = count;
  for (const unit of ["B", "KiB", "MiB"]) {
    if (size < 1024) return unit === "B" ? `${count} B` : `${size.toFixed(1)} ${unit}`;
    size /= 1024;
  }
  return `${size.toFixed(1)} GiB`;
}

function formatShare(x) {
  if (x === null || x === undefined || Number.isNaN(x)) return "–";
  return `${formatNumber(100 * x)} %`;
}

// An element with attributes and children; texts are texts, never markup.
function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) {
      made.setAttribute(name, value === true ? "" : value);
    }
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

function svgElement(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}
