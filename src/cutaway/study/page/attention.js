// Every head's attention: a small picture each, one of them large, and the text shaded by it.

const attentionKinds = report.attention ?? [];
const layersRead = new Map(); // "kind layer" -> promise of codes

function codes(kind, layer) {
  const key = `${kind} ${layer}`;
  if (!layersRead.has(key)) layersRead.set(key, unpack(`pattern-${kind}-${layer}`));
  return layersRead.get(key);
}

// A way to read the code at (query, memory) of one head; -1 where a query may not look.
function headReader(all, kind, layer, head) {
  const { causal, queries, memory } = attentionKinds[kind];
  const L = stream(queries).length, M = stream(memory).length;
  if (!causal) {
    const from = head * L * M;
    return { L, M, code: (q, m) => all[from + q * M + m] };
  }
  const from = head * (L * (L + 1)) / 2;
  return { L, M, code: (q, m) => (m > q ? -1 : all[from + (q * (q + 1)) / 2 + m]) };
}

const weightOf = (code, steps) => (code / steps) ** 2;
const weightError = (code, steps) => weightOf(code + 0.5, steps) - weightOf(code, steps);

// A small picture: each pixel is the largest weight of the cells it stands for.
function thumbnail(reader, steps) {
  const rows = Math.min(reader.L, 96), columns = Math.min(reader.M, 96);
  const most = new Int16Array(rows * columns).fill(-1);
  for (let q = 0; q < reader.L; q++) {
    const row = Math.floor((q * rows) / reader.L) * columns;
    for (let m = 0; m < reader.M; m++) {
      const code = reader.code(q, m);
      if (code < 0) break;
      const cell = row + Math.floor((m * columns) / reader.M);
      if (code > most[cell]) most[cell] = code;
    }
  }
  return picture(rows, columns, (r, c) => (most[r * columns + c] < 0 ? -1 : Math.round((most[r * columns + c] * 255) / steps)), "weight");
}

function showAttention() {
  if (!attentionKinds.length) return null;
  // What joins source and target is the most telling, where there is such a thing.
  state.kind ??= attentionKinds.findIndex(({ queries, memory }) => queries !== memory);
  if (!attentionKinds[state.kind]) state.kind = 0;
  const now = () => attentionKinds[state.kind];
  // Unless the address says otherwise, begin with the head the text misses most.
  if (state.layer === null || state.head === null) {
    const [, name] = now().tap.match(/\.(attn|cross|look)\./), side = now().tap.match(/^(encoder\.|decoder\.)?/)[0];
    const own = (report.effects?.parts ?? []).filter((part) => part.head !== null && part.kind === name && part.stack === side && part.loss !== null);
    const missed = own.reduce((a, b) => (a && a.loss >= b.loss ? a : b), null) ?? { layer: 0, head: 0 };
    state.layer ??= missed.layer;
    state.head ??= missed.head;
  }
  const settle = () => {
    const { heads } = now(), layer = heads[state.layer] ? state.layer : heads.findIndex((count) => count > 0);
    return { layer, head: Math.min(state.head, heads[layer] - 1) };
  };
  Object.assign(state, settle());

  // the grid of heads
  const grid = make("div.heads", { role: "radiogroup", "aria-label": "Heads by layer" });
  let buttons = [], drawn = 0;
  const build = () => {
    const { heads } = now(), most = Math.max(...heads);
    grid.style.gridTemplateColumns = `auto repeat(${most}, minmax(26px, ${Math.max(96, Math.min(150, 600 / most))}px))`;
    buttons = [];
    const cells = [make("span.row", {}, "head")];
    for (let h = 0; h < most; h++) cells.push(make("span.column", {}, String(h)));
    heads.forEach((count, layer) => {
      cells.push(make("span.row", {}, layer === 0 ? "block 0" : String(layer)));
      for (let head = 0; head < most; head++) {
        if (head >= count) {
          cells.push(make("span"));
          continue;
        }
        const button = make("button", { type: "button", role: "radio", tabindex: "-1", "aria-label": `block ${layer}, head ${head}`,
          title: `block ${layer}, head ${head}`, onclick: () => change({ layer, head }) });
        button.dataset.layer = layer;
        button.dataset.head = head;
        buttons.push(button);
        cells.push(button);
      }
    });
    grid.replaceChildren(...cells);
    mark();
    fill();
  };
  const fill = async () => {
    const turn = ++drawn, kind = state.kind, { heads, steps } = now();
    const order = [state.layer, ...heads.keys()].filter((layer, i, all) => heads[layer] && all.indexOf(layer) === i);
    for (const layer of order) {
      const all = await codes(kind, layer);
      if (turn !== drawn) return;
      for (const button of buttons.filter((one) => Number(one.dataset.layer) === layer)) {
        button.replaceChildren(thumbnail(headReader(all, kind, layer, Number(button.dataset.head)), steps));
      }
      await untilIdle();
    }
  };
  const mark = () => buttons.forEach((button) => {
    const here = Number(button.dataset.layer) === state.layer && Number(button.dataset.head) === state.head;
    button.setAttribute("aria-checked", here);
    button.tabIndex = here ? 0 : -1;
  });
  grid.addEventListener("keydown", (event) => {
    const index = buttons.findIndex((button) => button.tabIndex === 0);
    const to = arrows(event, now().heads[state.layer], index, buttons.length);
    if (to === null) return;
    buttons[to].click();
    buttons[to].focus();
  });

  // the large picture
  const canvas = make("canvas.matrix", { tabindex: "0", role: "img", "aria-label": "Attention of one head: rows ask, columns are looked at" });
  const reading = make("p.reading", { "aria-live": "polite" });
  const title = make("h3");
  let reader = null, looked = null, frame = null, image = null, drawnKey = null, shadedKey = null;
  const asks = () => Math.min(looked?.query ?? pinned(), stream(now().queries).length - 1);
  const pinned = () => (now().queries === "text" ? state.at : Math.min(state.at, stream(now().queries).length - 1));

  const load = async () => {
    const { kind, layer, head } = state;
    const all = await codes(kind, layer);
    if (kind !== state.kind || layer !== state.layer || head !== state.head) return;
    reader = headReader(all, kind, layer, head);
    title.textContent = `${now().title}: block ${layer}, head ${head}`;
    render();
  };
  // The part of an axis that is shown, around a position.
  const window_ = (count, around) => {
    const size = state.span && state.span < count ? state.span : count;
    return { from: Math.max(0, Math.min(count - size, around - Math.floor(size / 2))), size };
  };
  let anchor = null;
  const render = () => {
    if (!reader) return;
    const width = canvas.parentElement.clientWidth;
    if (!width) return;
    anchor ??= { query: pinned(), memory: Math.min(pinned(), reader.M - 1) };
    const rows = window_(reader.L, anchor.query), columns = window_(reader.M, anchor.memory);
    const labelled = Math.max(rows.size, columns.size) <= Math.min(64, Math.floor((width - 80) / 9.5));
    const margin = labelled ? 84 : 26;
    const cell = (width - margin - 2) / columns.size;
    const heightCell = Math.min(cell, 900 / rows.size);
    const height = margin + heightCell * rows.size + 2;
    const pen = fit(canvas, width, height);
    frame = { rows, columns, cell, heightCell, margin };
    const { steps } = now();
    const key = [state.kind, state.layer, state.head, rows.from, columns.from, rows.size, night.matches].join(" ");
    if (drawnKey !== key) {
      drawnKey = key;
      image = picture(rows.size, columns.size, (r, c) => {
        const code = reader.code(rows.from + r, columns.from + c);
        return code < 0 ? -1 : Math.round((code * 255) / steps);
      }, "weight");
    }
    pen.imageSmoothingEnabled = cell < 1;
    pen.drawImage(image, margin, margin, cell * columns.size, heightCell * rows.size);
    pen.strokeStyle = shade("rule");
    pen.strokeRect(margin - 0.5, margin - 0.5, cell * columns.size + 1, heightCell * rows.size + 1);
    pen.fillStyle = shade("muted");
    pen.font = labelled ? `${Math.min(11.5, Math.max(9, heightCell))}px ${shade("mono")}` : `11px ${shade("sans")}`;
    if (labelled) {
      const cut = (id) => (word(id).length > 11 ? `${word(id).slice(0, 10)}…` : word(id));
      pen.textBaseline = "middle";
      pen.textAlign = "right";
      for (let r = 0; r < rows.size; r++) pen.fillText(cut(stream(now().queries)[rows.from + r]), margin - 6, margin + (r + 0.5) * heightCell);
      pen.textAlign = "left";
      for (let c = 0; c < columns.size; c++) {
        pen.save();
        pen.translate(margin + (c + 0.5) * cell, margin - 6);
        pen.rotate(-Math.PI / 2);
        pen.fillText(cut(stream(now().memory)[columns.from + c]), 0, 0);
        pen.restore();
      }
    } else {
      pen.textAlign = "center";
      for (const value of ticks(columns.from, columns.from + columns.size - 1, 8)) pen.fillText(String(value), margin + (value - columns.from + 0.5) * cell, margin - 8);
      pen.textAlign = "right";
      pen.textBaseline = "middle";
      for (const value of ticks(rows.from, rows.from + rows.size - 1, 8)) {
        pen.save();
        pen.translate(margin - 8, margin + (value - rows.from + 0.5) * heightCell);
        pen.rotate(-Math.PI / 2);
        pen.textAlign = "center";
        pen.fillText(String(value), 0, -2);
        pen.restore();
      }
    }
    crosshair(pen);
    tell();
  };
  const crosshair = (pen) => {
    const { rows, columns, cell, heightCell, margin } = frame;
    const row = asks() - rows.from;
    pen.lineWidth = cell < 4 ? 1 : 1.5;
    pen.globalAlpha = cell < 4 ? 0.6 : 1;
    pen.strokeStyle = shade("warm");
    if (row >= 0 && row < rows.size) pen.strokeRect(margin, margin + row * heightCell, cell * columns.size, heightCell);
    if (looked?.memory !== undefined && looked.memory !== null) {
      const column = looked.memory - columns.from;
      if (column >= 0 && column < columns.size) pen.strokeRect(margin + column * cell, margin, cell, heightCell * rows.size);
    }
  };

  // the text, shaded
  const looks = make("div.looks");
  let texts = {};
  const buildTexts = () => {
    const { queries, memory } = now();
    const names = queries === memory ? [queries] : [queries, memory];
    texts = {};
    const headings = { text: report.streams.source ? "The target" : "The text", source: "The source" };
    looks.replaceChildren(...names.flatMap((name) => {
      texts[name] = tokenText(name, { short: true, label: headings[name], onpick: (at) => (name === queries ? change({ at }) : null),
        onlook: (at) => look(at === null || name !== queries ? null : { query: at }) });
      return [make("h3.between", {}, queries === memory ? "Where the chosen token looks" : name === queries ? `${headings[name]}: choose who asks` : `${headings[name]}: where it looks`),
        texts[name].box];
    }));
  };
  const tell = () => {
    const { queries, memory, steps } = now(), query = asks();
    const weights = Array.from({ length: reader.M }, (_, m) => Math.max(-1, reader.code(query, m)));
    const key = [state.kind, state.layer, state.head, query, night.matches].join(" ");
    if (shadedKey !== key) {
      shadedKey = key;
      texts[memory].spans.forEach((span, m) => paint(span, "weight", weights[m] < 0 ? null : weights[m] / steps));
      texts[queries].mark(query);
    }
    const order = weights.map((code, m) => [code, m]).filter(([code]) => code > 0).sort((a, b) => b[0] - a[0] || a[1] - b[1]);
    const said = (m) => (weights[m] ? percent(weightOf(weights[m], steps)) : `less than ${(100 * weightOf(0.5, steps)).toFixed(4)}${unit}`);
    const pieces = [chip(stream(queries)[query]), ` at ${query} `];
    if (looked?.memory !== undefined && looked.memory !== null) {
      const m = looked.memory;
      pieces.push(weights[m] < 0 ? "may not look ahead at " : "looks at ", chip(stream(memory)[m]), ` at ${m}`,
        weights[m] < 0 ? "; " : ` with ${said(m)} of its attention; `, "most at ");
    } else pieces.push("looks most at ");
    order.slice(0, 3).forEach(([, m], i) => pieces.push(i ? ", " : "", chip(stream(memory)[m]), ` at ${m} (${said(m)})`));
    pieces.push(".");
    reading.replaceChildren(...pieces);
  };
  const look = (where) => {
    looked = where;
    if (reader) render();
  };
  const cellAt = (event) => {
    if (!frame) return null;
    const box = canvas.getBoundingClientRect(), { rows, columns, cell, heightCell, margin } = frame;
    const column = Math.floor((event.clientX - box.left - margin) / cell), row = Math.floor((event.clientY - box.top - margin) / heightCell);
    if (row < 0 || row >= rows.size || column < 0 || column >= columns.size) return null;
    return { query: rows.from + row, memory: columns.from + column };
  };
  canvas.addEventListener("pointermove", (event) => look(cellAt(event)));
  canvas.addEventListener("pointerleave", () => look(null));
  canvas.addEventListener("click", (event) => {
    const where = cellAt(event);
    if (where) change({ at: Math.min(where.query, stream("text").length - 1) });
  });
  canvas.addEventListener("keydown", (event) => {
    const where = looked ?? { query: asks(), memory: 0 };
    const memory = where.memory ?? 0;
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (!moves) return;
    event.preventDefault();
    const query = Math.max(0, Math.min(reader.L - 1, where.query + moves[0]));
    look({ query, memory: Math.max(0, Math.min(reader.M - 1, memory + moves[1])) });
  });

  const sizes = () => {
    const most = Math.max(stream(now().queries).length, stream(now().memory).length);
    return [[0, "all tokens"], ...[128, 32].filter((n) => n < most).map((n) => [n, String(n)])];
  };
  const kinds = attentionKinds.length > 1
    ? choice("Which attention", attentionKinds.map(({ title }, i) => [i, title]), "kind") : null;
  const zoom = sizes().length > 1 ? choice("How much of it", sizes(), "span") : null;
  const error = `Weights are kept as ${now().steps} steps of their square root: ±${(100 * weightError(now().steps * Math.sqrt(0.01), now().steps)).toFixed(2)} `
    + `percentage points at 1 %, ±${(100 * weightError(now().steps * Math.sqrt(0.5), now().steps)).toFixed(2)} at 50 %.`;
  const figure = make("figure", {},
    kinds ? make("div.bar", {}, kinds) : null,
    make("div.attention", {},
      make("div", {}, make("div.bar", {}, make("h3", {}, "Every head"), make("span.grow"), legend("weight", "0 %", "100 %")), grid, looks),
      make("div.large", {}, make("div.bar", {}, title, make("span.grow"), zoom, saver(canvas, () => `attention-block-${state.layer}-head-${state.head}`)),
        canvas, reading)),
    source(error));
  section("attention", "Attention", [
    "In every block, each token gathers information from others. ", make("b", {}, "A row is the token that asks, a column the token it looks at"),
    "; the stronger the colour, the more it takes (colour follows the square root, so that faint looks show). Every head has a habit: ",
    "a diagonal looks at a neighbour, a vertical line at one special token, scattered dots at whatever matches."], figure);
  buildTexts();
  build();
  whenNear(figure, load);
  onChange(["layer", "head"], () => {
    mark();
    load();
  });
  onChange(["kind"], () => {
    Object.assign(state, settle());
    reader = looked = anchor = shadedKey = null;
    buildTexts();
    build();
    load();
  });
  onChange(["at", "span"], () => {
    anchor = null;
    render();
  });
  whenResized.push(render);
  redraws.push(() => {
    fill();
    render();
  });
  return ["attention", "Attention"];
}
