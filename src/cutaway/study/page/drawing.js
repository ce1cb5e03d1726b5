// Colours, canvases, and numbers out of their packing.

const night = matchMedia("(prefers-color-scheme: dark)");
const redraws = [];
night.addEventListener("change", () => redraws.forEach((act) => act()));

// Each ramp: stops from nothing to most. `change` runs from better through nothing to worse.
const ramps = {
  weight: { day: ["#f6f5f0", "#c3dcdb", "#6fadb4", "#24717e", "#0c3842"],
    night: ["#1d2226", "#1f434a", "#2c7480", "#62b4bf", "#d8f6f3"] },
  surprise: { day: ["#faf9f5", "#f8e6d3", "#f2c49b", "#e79a68", "#dc7a48"],
    night: ["#1b1f23", "#3a2c24", "#5f3d2b", "#854b2f", "#a55a36"] },
  sure: { day: ["#f6f5f0", "#dfe9e6", "#b4d3d3", "#7fb8bd", "#4f9aa3"],
    night: ["#1d2226", "#20373c", "#24525a", "#2b6d77", "#348894"] },
  change: { day: ["#2f8a96", "#a9d0d2", "#f3f1eb", "#f0bd97", "#d9703f"],
    night: ["#2f8a96", "#245159", "#22272b", "#6b4029", "#c0663b"] },
};

const channels = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
const tables = new Map();

// 256 colours of a ramp as [r, g, b].
function table(name) {
  const key = `${name} ${night.matches}`;
  if (!tables.has(key)) {
    const stops = ramps[name][night.matches ? "night" : "day"].map(channels);
    tables.set(key, Array.from({ length: 256 }, (_, i) => {
      const place = (i / 255) * (stops.length - 1), from = Math.min(Math.floor(place), stops.length - 2);
      return stops[from].map((low, c) => Math.round(low + (stops[from + 1][c] - low) * (place - from)));
    }));
  }
  return tables.get(key);
}

// The colour at 0..1 of a ramp, and ink that is readable on it.
function colour(name, share) {
  const [r, g, b] = table(name)[Math.max(0, Math.min(255, Math.round(share * 255)))];
  const light = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 3294.6 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  const luminance = 0.2126 * light[0] + 0.7152 * light[1] + 0.0722 * light[2];
  return { fill: `rgb(${r} ${g} ${b})`, ink: luminance > 0.19 ? "#1d2125" : "#f1efe9" };
}

function paint(element, name, share) {
  if (share === null || !Number.isFinite(share)) {
    element.style.background = element.style.color = "";
    return;
  }
  const { fill, ink } = colour(name, share);
  element.style.background = fill;
  element.style.color = ink;
}

function legend(name, low, high) {
  const ramp = make("span.ramp", { "aria-hidden": "true" });
  const fill = () => {
    const stops = ramps[name][night.matches ? "night" : "day"];
    ramp.style.background = `linear-gradient(90deg, ${stops.join(", ")})`;
  };
  redraws.push(fill);
  fill();
  return make("span.legend", {}, low, ramp, high);
}

// The paper, the ink and so on as the style sheet has them now.
const shade = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

async function unpack(id) {
  const text = atob(document.getElementById(id).textContent);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function numbers({ blob, type }) {
  const bytes = await unpack(blob);
  return new { int32: Int32Array, float32: Float32Array }[type](bytes.buffer);
}

const untilIdle = () => new Promise((go) => ("requestIdleCallback" in window
  ? requestIdleCallback(go, { timeout: 200 }) : setTimeout(go, 0)));

// Calls `act` once, when the element is about to be seen.
function whenNear(element, act) {
  const watch = new IntersectionObserver((entries) => {
    if (!entries.some((entry) => entry.isIntersecting)) return;
    watch.disconnect();
    act();
  }, { rootMargin: "800px" });
  watch.observe(element);
}

// A canvas as sharp as the screen: `width` and `height` in CSS pixels.
function fit(canvas, width, height) {
  const scale = window.devicePixelRatio || 1;
  canvas.width = Math.round(width * scale);
  canvas.height = Math.round(height * scale);
  canvas.style.height = `${height}px`;
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  return pen;
}

// An image of rows x columns, its pixel (r, c) coloured 0..255 by `value`.
function picture(rows, columns, value, ramp) {
  const canvas = document.createElement("canvas");
  canvas.width = columns;
  canvas.height = rows;
  const pen = canvas.getContext("2d"), image = pen.createImageData(columns, rows), colours = table(ramp);
  for (let r = 0, at = 0; r < rows; r++)
    for (let c = 0; c < columns; c++, at += 4) {
      const code = value(r, c);
      if (code < 0) continue; // nothing there: transparent
      const [red, green, blue] = colours[code];
      image.data[at] = red;
      image.data[at + 1] = green;
      image.data[at + 2] = blue;
      image.data[at + 3] = 255;
    }
  pen.putImageData(image, 0, 0);
  return canvas;
}

// Saves a canvas as a PNG on the page's paper.
function saver(canvas, name) {
  return make("button.save", { type: "button", onclick: () => {
    const copy = document.createElement("canvas");
    copy.width = canvas.width;
    copy.height = canvas.height;
    const pen = copy.getContext("2d");
    pen.fillStyle = shade("paper");
    pen.fillRect(0, 0, copy.width, copy.height);
    pen.drawImage(canvas, 0, 0);
    copy.toBlob((blob) => download(blob, `${name()}.png`));
  } }, "Save PNG");
}

function download(blob, name) {
  const link = make("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

const whenResized = [];
let resizeTimer = 0;
addEventListener("resize", () => {
  clearTimeout(resizeTimer);
  resizeTimer = setTimeout(() => whenResized.forEach((act) => act()), 120);
});
