// Tokens as people read them.

const signs = new Map([["\n", "↵"], ["\t", "⇥"], ["\r", "␍"], ["\u00a0", "⍽"]]);

// For a cell or an axis: white space becomes visible, an odd control character is spelled out.
function word(id) {
  const [text, kind] = vocabulary.get(id) ?? [`#${id}`, "special"];
  if (kind !== "text") return text;
  if (/^ +$/.test(text)) return "␣".repeat(text.length);
  return Array.from(text, (letter) => signs.get(letter) ?? (letter === " " ? "·" : /\p{C}/u.test(letter)
    ? `\\u${letter.codePointAt(0).toString(16).padStart(4, "0")}` : letter)).join("");
}

const chip = (id) => make("span.word", {}, word(id));
const stream = (name) => report.streams[name];

// The text itself, a span a token. One stop for the Tab key; arrows move inside. Returns the spans by position.
function tokenText(name, { short = false, label, onpick, onlook = null, first = null }) {
  const ids = stream(name);
  const box = make(short ? "div.tokens.short" : "div.tokens", { role: "listbox", tabindex: "0", "aria-label": label });
  const spans = ids.map((id, position) => {
    const [text, kind] = vocabulary.get(id) ?? [`#${id}`, "special"];
    const span = make("span.token", { role: "option", "data-at": position });
    if (position === first) span.classList.add("first");
    if (kind !== "text") span.append(make("span.sign", {}, text));
    else for (const letter of text) {
      if (letter === "\n") span.append(make("span.sign", {}, "↵"), "\n");
      else span.append(letter);
    }
    return span;
  });
  spans.forEach((span, i) => (span.id = `token-${tokenText.made}-${i}`));
  tokenText.made += 1;
  box.append(...spans);
  const at = (event) => {
    const span = event.target.closest?.(".token");
    return span ? Number(span.dataset.at) : null;
  };
  box.addEventListener("click", (event) => at(event) !== null && onpick(at(event)));
  if (onlook) {
    box.addEventListener("pointerover", (event) => at(event) !== null && onlook(at(event)));
    box.addEventListener("pointerleave", () => onlook(null));
  }
  let here = null;
  box.addEventListener("keydown", (event) => {
    const columns = { ArrowUp: 10, ArrowDown: 10 }[event.key] ?? 1;
    const to = arrows(event, columns, here ?? 0, ids.length);
    if (to !== null) onpick(to);
  });
  const mark = (position) => {
    if (here !== null && spans[here]) {
      spans[here].classList.remove("here");
      spans[here].removeAttribute("aria-selected");
    }
    here = position;
    if (position === null || !spans[position]) return box.removeAttribute("aria-activedescendant");
    spans[position].classList.add("here");
    spans[position].setAttribute("aria-selected", "true");
    box.setAttribute("aria-activedescendant", spans[position].id);
    const top = spans[position].offsetTop - box.offsetTop;
    if (top < box.scrollTop || top > box.scrollTop + box.clientHeight - 30) box.scrollTop = top - box.clientHeight / 2;
  };
  return { box, spans, mark };
}
tokenText.made = 0;

// The likeliest tokens with their probabilities; `chosen` is the one that really came.
function optionList(options, chosen = null) {
  return make("ol.options", {}, ...options.map(([id, probability]) =>
    make(id === chosen ? "li.chosen" : "li", {}, chip(id),
      make("span.track", { "aria-hidden": "true" },
        make("span.fill", { style: { width: `${100 * (probability ?? 0)}%` } })),
      make("span.percent", {}, percent(probability)))));
}

const facts = (...pairs) => make("dl.pairs", {}, ...pairs.filter(Boolean).flatMap(([name, value]) =>
  [make("dt", {}, name), make("dd", {}, value)]));
