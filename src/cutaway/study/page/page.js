// The page's data, its state and its elements. All files of this folder share one scope, in the order of report.py.

const report = JSON.parse(document.getElementById("report").textContent);
const vocabulary = new Map(Object.entries(report.vocabulary).map(([id, entry]) => [Number(id), entry]));

// What the reader is looking at. It lives in the address too, so that a view can be shown to somebody else.
const state = { at: null, kind: null, layer: null, head: null, span: 0, part: null, measure: "loss", axis: "step" };
const numeric = new Set(["at", "kind", "layer", "head", "span", "part"]);
const listeners = [];

function onChange(names, act) {
  listeners.push([new Set(names), act]);
}

function change(values) {
  const changed = Object.keys(values).filter((name) => state[name] !== values[name]);
  if (!changed.length) return;
  Object.assign(state, values);
  for (const [names, act] of listeners) if (changed.some((name) => names.has(name))) act();
  rememberInAddress();
}

let addressTimer = 0;
function rememberInAddress() {
  clearTimeout(addressTimer);
  addressTimer = setTimeout(() => {
    const kept = Object.entries(state).filter(([, value]) => value !== null).map(([name, value]) => `${name}=${value}`);
    try {
      history.replaceState(null, "", "#" + kept.join("&"));
    } catch {
      // a browser may refuse to change the address of a local file: the page works without
    }
  }, 250);
}

function readAddress() {
  const known = new URLSearchParams(location.hash.slice(1));
  for (const [name, value] of known) {
    if (!(name in state)) continue;
    if (numeric.has(name)) {
      if (/^\d+$/.test(value)) state[name] = Number(value);
    } else state[name] = value;
  }
  return known.get("view");
}

// An element: `make("p.small", {title: "x"}, "text", child)`. Text only ever becomes text.
function make(kind, properties = {}, ...children) {
  const [tag, ...classes] = kind.split(".");
  const element = document.createElement(tag);
  if (classes.length) element.className = classes.join(" ");
  for (const [name, value] of Object.entries(properties)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) element.style.setProperty(key, one);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

const svgSpace = "http://www.w3.org/2000/svg";
function draw(tag, attributes = {}, ...children) {
  const element = document.createElementNS(svgSpace, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

// A section of the page with its line "what am I looking at", and the provenance of its figures.
function section(id, title, what, ...children) {
  const element = make("section", { id, "aria-labelledby": `${id}-title` },
    make("h2", { id: `${id}-title` }, title), make("p.what", {}, ...[what].flat()), ...children);
  document.getElementById("main").append(element);
  return element;
}

function source(note) {
  const about = [report.name, report.step === null ? null : `step ${grouped(report.step)}`, report.size.dtype].filter(Boolean).join(" · ");
  return make("figcaption", {}, note ? `${note} ${about}` : about);
}

function choice(label, options, name) {
  const group = make("div.choice", { role: "group", "aria-label": label });
  const buttons = options.map(([value, text]) =>
    make("button", { type: "button", onclick: () => change({ [name]: value }) }, text));
  const show = () => buttons.forEach((button, i) => button.setAttribute("aria-pressed", options[i][0] === state[name]));
  onChange([name], show);
  group.append(...buttons);
  show();
  return group;
}

// Arrow keys inside a set of things of which one can be chosen: left, right, up, down, home, end.
function arrows(event, columns, index, count) {
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
  let to = null;
  if (event.key in steps) to = index + steps[event.key];
  else if (event.key === "Home") to = 0;
  else if (event.key === "End") to = count - 1;
  if (to === null || to < 0 || to >= count) return null;
  event.preventDefault();
  return to;
}

const unit = "\u00a0%"; // does not part from its number at the end of a line
function percent(p) {
  if (p === null) return "–";
  if (p >= 0.9995 || p === 0) return Math.round(100 * p) + unit;
  if (p < 1e-6) return `< 0.0001${unit}`;
  return (100 * p).toFixed(p >= 0.1 ? 1 : p >= 0.001 ? 2 : p >= 1e-4 ? 3 : 4) + unit;
}
const fixed = (value, digits = 2) => (value === null || !Number.isFinite(value) ? "–" : value.toFixed(digits));
const signed = (value, digits = 2) => {
  if (value === null || !Number.isFinite(value)) return "–";
  const text = Math.abs(value).toFixed(digits);
  return Number(text) === 0 ? text : (value > 0 ? "+" : "−") + text;
};
const grouped = (value) => value.toLocaleString("en-US");
