// Puts the page together.

function showHead() {
  const { figures, about } = summary();
  const mark = draw("svg", { viewBox: "0 0 22 22", "aria-hidden": "true" },
    draw("path", { d: "M2 2h18v18H2z", fill: "none", stroke: "currentColor", "stroke-width": "1.6" }),
    draw("path", { d: "M11 2v18M11 8l9-6M11 14l9-6M11 20l9-6", fill: "none", stroke: "currentColor", "stroke-width": "1.2" }));
  document.getElementById("masthead").append(
    make("div.brand", {}, mark, "Cutaway"), make("h1", {}, `Inside ${report.name}`), make("p.about", {}, about),
    make("div.figures", {}, ...figures.map(([value, name]) => make("div", {}, make("div.value", {}, value), make("div.name", {}, name)))),
    make("dl.facts", {}, ...report.facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    ...report.notices.map((notice) => make("p.notice", {}, notice)));
}

function summary() {
  const ids = stream("text"), fact = Object.fromEntries(report.facts), figures = [];
  const length = report.streams.source ? `${report.streams.source.length} source and ${ids.length} target tokens` : `${ids.length} tokens`;
  const about = `A model of ${fact.layers} layers and ${fact.parameters} parameters reads ${length}. This page shows what happens inside, from the first layer to the last.`;
  if (report.predicts) {
    const losses = report.text.losses.slice(1), sum = losses.reduce((a, b) => a + b, 0);
    figures.push([fixed(sum / losses.length, 3), "nats a token: its loss on this text"]);
    if (report.size.bytes) figures.push([fixed(sum / Math.LN2 / report.size.bytes, 3), "bits a byte: the same, comparable across tokenizers"]);
    const first = ids.filter((id, at) => at > 0 && report.text.options[at - 1][0][0] === id).length;
    figures.push([`${Math.round((100 * first) / losses.length)} %`, "of the tokens were its first guess"]);
    const [id, probability] = report.text.options.at(-1)[0];
    figures.push([make("span", {}, chip(id), percent(probability)), "is what it expects to come next"]);
  }
  if (report.classes) {
    const [[name, chance], ...others] = report.classes;
    const rest = others.slice(0, 3).map(([other, share]) => `${other} ${percent(share)}`).join(", ");
    figures.push([`${name} ${percent(chance)}`, `is its class for this text${rest && `; then ${rest}`}`]);
  }
  const [judged] = report.training?.judged ?? [];
  if (judged) figures.push(judgedFigure(judged));
  return { figures, about };
}

function showContents(entries) {
  const links = entries.map(([id, title]) => make("a", { href: `#view=${id}`, onclick: (event) => {
    event.preventDefault();
    document.getElementById(id).scrollIntoView();
  } }, title));
  document.getElementById("contents").append(make("ul", {}, ...links.map((link) => make("li", {}, link))));
  const watch = new IntersectionObserver((changes) => {
    for (const { target, isIntersecting } of changes) {
      if (isIntersecting) links.forEach((link, i) => link.setAttribute("aria-current", entries[i][0] === target.id));
    }
  }, { rootMargin: "-30% 0px -65% 0px" });
  entries.forEach(([id]) => watch.observe(document.getElementById(id)));
}

const view = readAddress();
const last = stream("text").length - 1;
state.at = Math.min(state.at ?? last, last);
showHead();
showContents([showTraining(), showText(), showAttention(), showLens(), showEffects(), showShapes()].filter(Boolean));
document.getElementById("colophon").append(
  make("p", {}, "Every number on this page was computed by the model itself; nothing was fetched from anywhere, and the page holds all it shows."),
  make("p", {}, "Layers, heads and positions count from 0, as their names in code do."));
if (view) document.getElementById(view)?.scrollIntoView({ behavior: "instant" });
document.documentElement.dataset.ready = Math.round(performance.now()); // milliseconds since the page was asked for
