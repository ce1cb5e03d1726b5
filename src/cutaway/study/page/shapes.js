// The shape of the tensor at every tap.

function showShapes() {
  const { shapes, letters } = report;
  // Taps of equal blocks stand in one line: blocks.0-11.attn.q.
  const lines = new Map();
  for (const [name, shape, axes, meaning] of shapes) {
    const found = name.match(/^((?:encoder\.|decoder\.)?blocks\.)(\d+)(\..*)$/);
    const key = found ? `${found[1]}*${found[3]} ${shape.join("x")}` : name;
    const line = lines.get(key) ?? { found, name, shape, axes, meaning, layers: [] };
    if (found) line.layers.push(Number(found[2]));
    lines.set(key, line);
  }
  const used = new Set([...lines.values()].flatMap(({ axes }) => [...axes]));
  const spelled = ({ found, name, layers }) => {
    if (!found) return name;
    const whole = layers.length === layers.at(-1) - layers[0] + 1 && layers.length > 1;
    return `${found[1]}${whole ? `{${layers[0]}–${layers.at(-1)}}` : layers.join(",")}${found[3]}`;
  };
  const cell = ({ shape, axes }) => make("td.axes", {}, ...shape.flatMap((size, i) =>
    [i ? " × " : "", grouped(size), axes && axes[i] !== "1" ? make("i", {}, axes[i]) : ""]));
  const rows = [...lines.values()].map((line) => {
    const count = line.shape.reduce((a, b) => a * b, 1) * Math.max(1, line.layers.length);
    return make("tr", {}, make("td", {}, make("code", {}, spelled(line)), make("span.under", {}, line.meaning)), cell(line), make("td.number", {}, grouped(count)),
      make("td.muted.meaning", {}, line.meaning));
  });
  const head = make("tr", {}, make("th", {}, "tap"), make("th", {}, "shape"), make("th.number", {}, "numbers"), make("th.meaning", {}, "what it holds"));
  section("shapes", "The shape of everything", [
    "Every tensor on the way from token to prediction has a name at which it can be read or replaced. ",
    "With ", make("code", {}, "{0–3}"), " in a name, every block from 0 to 3 has one."],
  make("p.letters", {}, ...Object.entries(letters).filter(([letter]) => used.has(letter)).map(([letter, meaning]) =>
    make("span", {}, make("b", {}, letter), ` ${meaning}`))),
  make("div.scroller", {}, make("table.shapes", {}, make("thead", {}, head), make("tbody", {}, ...rows))), source());
  return ["shapes", "Shapes"];
}
