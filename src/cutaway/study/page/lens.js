// The logit lens: what the model would say if it ended at each layer.

function showLens() {
  const data = report.lens;
  if (!data) return null;
  const { rows } = data, ids = stream("text"), N = rows.length, L = ids.length, E = data.options.shape[2];
  const names = rows.map((_, n) => (n === 0 ? "input" : `block ${n - 1}`));
  const measures = [["sure", "its first choice"], ...(data.losses ? [["true", "what really came"]] : [])];
  if (!measures.some(([name]) => name === state.measure)) state.measure = "sure";
  const overview = make("canvas.overview", { role: "img", "aria-label": "Overview: layers by positions", tabindex: "0" });
  const tableBox = make("div.scroller"), detail = make("div.panel.detail", { "aria-live": "polite" });
  let options = null, probabilities = null, losses = null, looked = null;

  const best = (n, l) => options[(n * L + l) * E];
  const sure = (n, l) => probabilities[(n * L + l) * E];
  const truth = (n, l) => (losses && l < L - 1 ? Math.exp(-losses[n * (L - 1) + l]) : null);
  const value = (n, l) => (state.measure === "true" ? truth(n, l) : sure(n, l));

  const window_ = () => {
    const width = tableBox.clientWidth || 900;
    const size = Math.max(3, Math.min(L, Math.floor((width - 90) / 84)));
    return { size, from: Math.max(0, Math.min(L - size, state.at - Math.floor(size / 2))) };
  };
  const drawOverview = () => {
    if (!options) return;
    const width = overview.parentElement.clientWidth, tall = Math.max(6, Math.min(16, Math.floor(190 / N)));
    const pen = fit(overview, width, tall * N);
    const image = picture(N, L, (n, l) => {
      const v = value(n, l);
      return v === null ? -1 : Math.round(v * 255);
    }, "sure");
    pen.imageSmoothingEnabled = L > width;
    pen.drawImage(image, 0, 0, width, tall * N);
    const { from, size } = window_();
    pen.strokeStyle = shade("warm");
    pen.lineWidth = 2;
    pen.strokeRect((from / L) * width + 1, 1, (size / L) * width - 2, tall * N - 2);
  };
  const drawTable = () => {
    if (!options) return;
    const { from, size } = window_();
    const places = Array.from({ length: size }, (_, i) => from + i);
    const heading = (l) => make(l === state.at ? "th.here" : "th", { scope: "col", title: `position ${l}` }, word(ids[l]));
    const body = names.map((name, n) => make("tr", {}, make("th", { scope: "row" }, name), ...places.map((l) => {
      const id = best(n, l), came = data.losses && l < L - 1 && id === ids[l + 1];
      const cell = make("div", { role: "button", tabindex: n === N - 1 && l === state.at ? "0" : "-1", "data-n": n, "data-l": l },
        word(id), make("small", {}, percent(value(n, l))));
      paint(cell, "sure", value(n, l));
      return make(came ? "td.right" : "td", {}, cell);
    })));
    const table_ = make("table.lens", {},
      make("caption.unseen", {}, "The likeliest token after each layer"),
      make("thead", {}, make("tr", {}, make("th", { scope: "row" }, "reads"), ...places.map(heading))),
      make("tbody", {}, ...body));
    if (data.losses) table_.append(make("tfoot", {}, make("tr", {}, make("th", { scope: "row" }, "next"),
      ...places.map((l) => make("th", { scope: "col" }, l < L - 1 ? word(ids[l + 1]) : "?")))));
    tableBox.replaceChildren(table_);
  };
  const tell = () => {
    if (!options) return;
    const n = looked?.n ?? N - 1, l = looked?.l ?? state.at, from = (n * L + l) * E;
    const list = Array.from({ length: E }, (_, i) => [options[from + i], probabilities[from + i]]);
    const came = data.losses && l < L - 1 ? ids[l + 1] : null;
    detail.replaceChildren(make("h3", {}, n === 0 ? "Before the first block" : `After block ${n - 1}`, ", having read ", chip(ids[l])),
      facts(["tap", make("code", {}, rows[n])], ["position", String(l)],
        came === null ? null : ["then came", make("span", {}, chip(came), ` ${percent(truth(n, l))}`)]),
      optionList(list, came));
  };
  const cellOf = (event) => {
    const cell = event.target.closest?.("[data-n]");
    return cell ? { n: Number(cell.dataset.n), l: Number(cell.dataset.l) } : null;
  };
  tableBox.addEventListener("pointerover", (event) => {
    looked = cellOf(event) ?? looked;
    tell();
  });
  tableBox.addEventListener("pointerleave", () => {
    looked = null;
    tell();
  });
  tableBox.addEventListener("click", (event) => {
    const cell = cellOf(event);
    if (cell) change({ at: cell.l });
  });
  tableBox.addEventListener("keydown", (event) => {
    const cell = cellOf(event);
    if (!cell) return;
    const moves = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] }[event.key];
    if (!moves) return;
    event.preventDefault();
    const n = Math.max(0, Math.min(N - 1, cell.n + moves[0])), l = Math.max(0, Math.min(L - 1, cell.l + moves[1]));
    looked = { n, l };
    change({ at: l });
    tell();
    tableBox.querySelector(`[data-n="${n}"][data-l="${l}"]`)?.focus();
  });
  const jump = (event) => {
    const box = overview.getBoundingClientRect();
    change({ at: Math.max(0, Math.min(L - 1, Math.floor(((event.clientX - box.left) / box.width) * L))) });
  };
  overview.addEventListener("pointerdown", jump);
  overview.addEventListener("pointermove", (event) => event.buttons && jump(event));
  overview.addEventListener("keydown", (event) => {
    const to = arrows(event, 10, state.at, L);
    if (to !== null) change({ at: to });
  });

  const figure = make("figure", {},
    make("div.bar", {}, measures.length > 1 ? make("span.small.muted", {}, "colour: probability of") : null,
      measures.length > 1 ? choice("Colour", measures, "measure") : null, make("span.grow"), legend("sure", "0 %", "100 %"),
      saver(overview, () => "logit-lens")),
    overview, make("div.split", {}, tableBox, detail), source());
  section("lens", "Layer by layer", [
    "Each block adds something to what a position carries. This table asks after every block: ",
    make("b", {}, `if the model ended here, which token would it name ${data.losses ? "next" : "at this place"}?`),
    " Read a column from the input at the top to the answer at the bottom.", data.losses ? " An outlined cell names the token that really came. " : " ",
    L > 12 ? "The strip shows the whole text; click it to move the table." : ""], figure);
  const drawAll = () => {
    drawOverview();
    drawTable();
    tell();
  };
  whenNear(figure, async () => {
    options = await numbers(data.options);
    probabilities = await numbers(data.probabilities);
    losses = data.losses ? await numbers(data.losses) : null;
    drawAll();
  });
  onChange(["at", "measure"], drawAll);
  whenResized.push(drawAll);
  redraws.push(drawAll);
  return ["lens", "Layer by layer"];
}
