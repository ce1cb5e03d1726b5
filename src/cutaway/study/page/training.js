// How the model was trained: loss curves and samples.

const curve = { width: 1200, height: 330, left: 46, right: 12, top: 12, bottom: 34 };

// About `count` round numbers between two.
function ticks(low, high, count) {
  const rough = (high - low) / count || 1, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough);
  const found = [];
  for (let value = Math.ceil(low / step) * step; value <= high + step * 1e-6; value += step) found.push(Number(value.toPrecision(12)));
  return found;
}

// A figure the run was judged by, as a value and what it means.
const judgedFigure = ([name, value, kind, meaning]) =>
  [kind === "share" ? percent(value) : fixed(value, name.includes("bleu") || value >= 100 ? 1 : 3), meaning];

// What a loss of nothing learned would be, in words.
function blindGuess() {
  const count = report.classes ? report.classes.length : report.size.vocab;
  return `${fixed(Math.log(count), 2)} is guessing evenly among its ${grouped(count)} ${report.classes ? "classes" : "tokens"}`;
}

function showTraining() {
  const training = report.training;
  if (!training || !training.points.length) return null;
  const { points, stride } = training;
  const has = (name) => points.some((point) => point[name] !== undefined && point[name] !== null);
  const axes = [["step", "steps"], ["tokens", "tokens"], ["seconds", "seconds"]].filter(([name]) => has(name));
  if (!axes.some(([name]) => name === state.axis)) state.axis = "step";
  const svg = draw("svg", { class: "chart", role: "img", "aria-label": "Loss over training" });
  const reading = make("p.reading.small.muted", { "aria-live": "polite" });

  const render = () => {
    const narrow = svg.parentElement && svg.parentElement.clientWidth < 800;
    const width = narrow ? 660 : curve.width, height = curve.height;
    svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const name = state.axis, usable = points.filter((p) => Number.isFinite(p[name]));
    const values = usable.flatMap((p) => [p.loss, p.validation_sample, p.validation]).filter(Number.isFinite);
    const xs = usable.map((p) => p[name]);
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    const [y0, y1] = [Math.min(...values), Math.max(...values)];
    const margin = (y1 - y0) * 0.06 || 0.1, low = Math.max(0, y0 - margin), high = y1 + margin;
    const right = width - curve.right, bottom = height - curve.bottom;
    const x = (v) => curve.left + ((v - x0) / (x1 - x0 || 1)) * (right - curve.left);
    const y = (v) => bottom - ((v - low) / (high - low)) * (bottom - curve.top);
    const parts = [];
    for (const value of ticks(low, high, 6)) {
      parts.push(draw("line", { class: "grid", x1: curve.left, x2: right, y1: y(value), y2: y(value) }));
      parts.push(draw("text", { x: curve.left - 8, y: y(value) + 4, "text-anchor": "end" }, String(value)));
    }
    for (const value of ticks(x0, x1, narrow ? 5 : 9)) {
      parts.push(draw("text", { x: x(value), y: height - 12, "text-anchor": "middle" }, grouped(value)));
    }
    parts.push(draw("text", { x: curve.left + 6, y: curve.top + 2 }, training.unit));
    const line = (key) => usable.filter((p) => Number.isFinite(p[key]));
    const path = (list, key) => list.map((p, i) => `${i ? "L" : "M"}${x(p[name]).toFixed(1)} ${y(p[key]).toFixed(1)}`).join("");
    parts.push(draw("path", { class: "loss", d: path(line("loss"), "loss") }));
    const checks = line("validation_sample"), whole = line("validation");
    parts.push(draw("path", { class: "validation", d: path(checks, "validation_sample") }));
    if (checks.length <= 80) for (const p of checks) parts.push(draw("circle", { cx: x(p[name]), cy: y(p.validation_sample), r: 2.5 }));
    for (const p of whole) parts.push(draw("circle", { class: "whole", cx: x(p[name]), cy: y(p.validation), r: 5 }));
    const cursor = draw("line", { class: "cursor", y1: curve.top, y2: bottom, visibility: "hidden" });
    svg.replaceChildren(...parts, cursor);
    const say = (p) => {
      const shown = [`step ${grouped(p.step)}`, Number.isFinite(p.loss) ? `training loss ${fixed(p.loss, 3)}` : null,
        Number.isFinite(p.validation_sample) ? `on a part of the text put aside ${fixed(p.validation_sample, 3)}` : null,
        Number.isFinite(p.bleu_sample) ? `BLEU of its first pairs, greedily ${fixed(p.bleu_sample, 1)}` : null,
        Number.isFinite(p.accuracy_sample) ? `right there ${percent(p.accuracy_sample)}` : null,
        Number.isFinite(p.validation) ? `on all text put aside ${fixed(p.validation, 3)}` : null,
        Number.isFinite(p.tokens) ? `${grouped(p.tokens)} tokens` : null,
        Number.isFinite(p.seconds) ? `${fixed(p.seconds, 1)} s` : null];
      reading.textContent = shown.filter(Boolean).join(" · ");
    };
    say(whole.at(-1) ?? checks.at(-1) ?? usable.at(-1));
    svg.onpointermove = (event) => {
      const box = svg.getBoundingClientRect();
      const wanted = ((event.clientX - box.left) / box.width) * width;
      const nearest = usable.reduce((a, b) => (Math.abs(x(b[name]) - wanted) < Math.abs(x(a[name]) - wanted) ? b : a));
      cursor.setAttribute("x1", x(nearest[name]));
      cursor.setAttribute("x2", x(nearest[name]));
      cursor.setAttribute("visibility", "visible");
      say(nearest);
    };
    svg.onpointerleave = () => cursor.setAttribute("visibility", "hidden");
  };

  const key = (variable, text) => make("span.legend", {},
    make("span.key", { style: { background: `var(--${variable})` } }), text);
  const bar = make("div.bar", {}, key("accent", "on the examples it trains on"),
    has("validation_sample") ? key("warm", "on a part of the text put aside") : null,
    has("validation") ? make("span.legend", {}, make("span.ring"), "on all of it, at the end") : null, make("span.grow"),
    axes.length > 1 ? choice("Horizontal axis", axes, "axis") : null);
  const note = stride > 1 ? `Every ${stride}th step is drawn.` : "Every recorded step is drawn, without smoothing.";
  const children = [make("figure", {}, bar, svg, reading, source(note))];
  if (training.judged.length) {
    children.push(make("h3.between", {}, "What it reached at the end"),
      make("div.figures.reached", {}, ...training.judged.map(judgedFigure).map(([value, meaning]) =>
        make("div", {}, make("div.value", {}, value), make("div.name", {}, meaning)))));
  }
  if (training.samples.length) {
    children.push(make("h3.between", {}, "What it wrote along the way"),
      make("div.samples", { tabindex: "0", role: "region", "aria-label": "Samples during training" },
        ...training.samples.map(([step, text]) => make("article.panel", {},
          make("h3", {}, `after ${grouped(step)} steps`), make("pre", {}, text)))));
  }
  section("training", "Training", [
    `Loss says how surprised the model is by ${report.classes ? "the right class" : report.predicts ? "the next token" : "a hidden token"}, `,
    `in nats: 0 is certain, ${blindGuess()}. Where the line for `,
    "text put aside stays close to the other, the model learns rules and does not learn its examples by heart."], ...children);
  onChange(["axis"], render);
  whenResized.push(render);
  render();
  return ["training", "Training"];
}
