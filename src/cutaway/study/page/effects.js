// What happens when one part is switched off: a map of parts, coloured by what the text's loss does.

function showEffects() {
  const data = report.effects;
  if (!data) return null;
  const { parts } = data, ids = stream("text"), L = ids.length;
  const plain = report.text.losses.slice(1);
  const base = data.before;
  const deltas = parts.map((part) => (part.loss === null ? null : part.loss - base));
  const sizes = deltas.filter((d) => d !== null).map(Math.abs);
  const top = Math.max(0.01, ...sizes), soft = Math.max(top / 200, 1e-4);
  // linear near nothing, logarithmic far out, so that a head and a whole layer fit one scale
  const share = (d) => (d === null ? null : 0.5 + (0.5 * Math.sign(d) * Math.log1p(Math.abs(d) / soft)) / Math.log1p(top / soft));
  const stacks = [...new Set(parts.map((part) => part.stack))];
  if (state.part === null || state.part >= parts.length) {
    state.part = deltas.indexOf(Math.max(...deltas.map((d, i) => (parts[i].head !== null && d !== null ? d : -Infinity))));
    if (state.part < 0) state.part = 0;
  }
  const naming = (part) => {
    const side = { "encoder.": "encoder ", "decoder.": "decoder " }[part.stack] ?? "";
    const what = { attn: "attention", mixer: "mixer", cross: "cross-attention", ffn: "feed-forward" }[part.kind];
    if (part.head !== null) return `${side}block ${part.layer}, ${part.kind === "cross" ? "cross-attention " : ""}head ${part.head}`;
    return part.kind === "layer" ? `${side}block ${part.layer}, all of it` : `${side}block ${part.layer}, its ${what}`;
  };
  const cells = new Map();
  const table_ = (stack) => {
    const own = parts.map((part, index) => ({ part, index })).filter(({ part }) => part.stack === stack);
    const columns = [];
    for (const kind of ["attn", "mixer", "cross"]) {
      if (!own.some(({ part }) => part.kind === kind)) continue;
      const heads = Math.max(-1, ...own.filter(({ part }) => part.kind === kind && part.head !== null).map(({ part }) => part.head)) + 1;
      for (let head = 0; head < heads; head++) columns.push({ kind, head, label: head === 0 ? (kind === "cross" ? "cross 0" : "head 0") : String(head) });
      const all = { attn: "all heads", mixer: "mixer", cross: "all cross" }[kind];
      columns.push({ kind, head: null, label: all, wide: true }, null);
    }
    if (own.some(({ part }) => part.kind === "ffn")) columns.push({ kind: "ffn", head: null, label: "feed-fwd", wide: true }, null);
    columns.push({ kind: "layer", head: null, label: "block", wide: true });
    const layers = [...new Set(own.map(({ part }) => part.layer))];
    const rows = layers.map((layer) => make("tr", {}, make("th", { scope: "row" }, `block ${layer}`), ...columns.map((column) => {
      if (!column) return make("td.gap");
      const found = own.find(({ part }) => part.layer === layer && part.kind === column.kind && part.head === column.head);
      if (!found) return make("td");
      const { index, part } = found;
      const button = make("button", { type: "button", tabindex: "-1", "data-part": index,
        "aria-label": `${naming(part)} off: loss ${signed(deltas[index], 3)}`, onclick: () => change({ part: index }) });
      cells.set(index, button);
      return make("td", {}, button);
    })));
    const head = make("tr", {}, make("td"), ...columns.map((column) => (column ? make("th", { scope: "col" }, column.label) : make("th.gap"))));
    const widths = make("colgroup", {}, make("col", { style: { width: "5.2em" } }), ...columns.map((column) =>
      make("col", { style: column ? (column.wide ? { width: "58px" } : {}) : { width: "6px" } })));
    const title = { "encoder.": "Encoder", "decoder.": "Decoder" }[stack];
    const element = make("table.effects", {}, widths, make("thead", {}, head), make("tbody", {}, ...rows));
    element.addEventListener("keydown", (event) => {
      const cell = event.target.closest("td");
      if (!cell) return;
      const line = cell.parentElement, place = [...line.children].indexOf(cell);
      const next = { ArrowLeft: () => before(cell), ArrowRight: () => after(cell), ArrowUp: () => line.previousElementSibling?.children[place],
        ArrowDown: () => line.nextElementSibling?.children[place] }[event.key];
      if (!next) return;
      event.preventDefault();
      const button = next()?.querySelector("button");
      button?.click();
      button?.focus();
    });
    return [title && stacks.length > 1 ? make("h3.between", {}, title) : null, make("div.scroller", {}, element)];
  };
  const before = (cell) => {
    let one = cell.previousElementSibling;
    while (one && !one.querySelector("button")) one = one.previousElementSibling;
    return one;
  };
  const after = (cell) => {
    let one = cell.nextElementSibling;
    while (one && !one.querySelector("button")) one = one.nextElementSibling;
    return one;
  };

  const maps = make("div", {}, ...stacks.flatMap(table_));
  const detail = make("div.panel.detail", { "aria-live": "polite" });
  const text = tokenText("text", { short: true, label: "The text, by change of loss", onpick: (at) => change({ at }) });
  const heading = make("h3.between"), reading = make("p.small.muted");
  let losses = null, looked = null;

  const tint = () => {
    const roomy = new Set([...cells].filter(([, button]) => button.clientWidth >= 34).map(([index]) => index));
    cells.forEach((button, index) => write(button, index, roomy.has(index)));
  };
  const write = (button, index, roomy) => {
    button.textContent = !roomy ? "" : signed(deltas[index], Math.abs(deltas[index]) >= 10 ? 1 : 2);
    paint(button, "change", share(deltas[index]));
  };
  const mark = () => cells.forEach((button, index) => {
    button.setAttribute("aria-pressed", index === state.part);
    button.tabIndex = index === state.part ? 0 : -1;
  });
  const tell = () => {
    const index = looked ?? state.part, part = parts[index];
    detail.replaceChildren(make("h3", {}, naming(part), " off"),
      facts(["loss", `${fixed(base, 3)} → ${fixed(part.loss, 3)} nats`], ["change", signed(deltas[index], 3)],
        ["tap", make("code", {}, part.tap)]),
      make("p.small.muted", {}, "After the text it expects, with the part on:"), optionList(report.text.options.at(-1)),
      make("p.small.muted", { style: { "margin-top": "12px" } }, "and with the part off:"), optionList(part.next));
    heading.textContent = `Token by token: ${naming(part)} off`;
    if (!losses) return;
    const change_ = Array.from(plain, (loss, i) => losses[index * (L - 1) + i] - loss);
    text.spans.forEach((span, i) => {
      paint(span, "change", i === 0 ? null : share(Math.max(-top, Math.min(top, change_[i - 1]))));
      span.title = i === 0 ? "" : `${signed(change_[i - 1], 3)} nats`;
    });
    const worst = change_.map((d, i) => [d, i + 1]).sort((a, b) => b[0] - a[0]).slice(0, 4);
    reading.replaceChildren("Hit hardest: ", ...worst.flatMap(([d, at], i) => [i ? ", " : "", chip(ids[at]), ` at ${at} (${signed(d)})`]), ". Colours as in the map above.");
  };
  const partOf = (event) => {
    const button = event.target.closest?.("[data-part]");
    return button ? Number(button.dataset.part) : null;
  };
  maps.addEventListener("pointerover", (event) => {
    const index = partOf(event);
    if (index === looked || index === null) return;
    looked = index;
    tell();
  });
  maps.addEventListener("pointerleave", () => {
    looked = null;
    tell();
  });

  const figure = make("figure", {},
    make("div.bar", {}, legend("change", `−${fixed(top)}: better without`, `+${fixed(top)} nats: missed`), make("span.small.muted", {}, "(scale logarithmic outside the middle)")),
    make("div.split.three", {}, maps, detail, make("div", {}, heading, reading, text.box)),
    source("Off means: the part adds exactly zero to what passes through."));
  section("effects", "Switched off", [
    "The text is read again with one part missing. ", make("b", {}, "The number is how much the average loss of the text changes"),
    `, from ${fixed(base, 3)} nats with every part on: warm where the part is missed, blue-green where the model does better without.`], figure);
  whenNear(figure, async () => {
    losses = await numbers(data.losses);
    tell();
  });
  onChange(["part"], () => {
    mark();
    tell();
  });
  onChange(["at"], () => text.mark(state.at));
  whenResized.push(tint);
  redraws.push(() => {
    tint();
    tell();
  });
  tint();
  mark();
  text.mark(state.at);
  tell();
  return ["effects", "Switched off"];
}
