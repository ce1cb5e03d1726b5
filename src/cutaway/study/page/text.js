// The text, each token coloured by how surprising it was.

function showText() {
  const { predicts } = report;
  const prediction = report.text, ids = stream("text");
  const top = Math.log(report.size.vocab);
  const detail = make("div.panel.detail", { "aria-live": "polite" });
  let looked = null;

  const describe = () => {
    const at = looked ?? state.at;
    const loss = prediction?.losses?.[at] ?? null;
    const children = [make("h3", {}, "Token ", chip(ids[at]))];
    if (predicts && at > 0) {
      const rank = prediction.options[at - 1].findIndex(([id]) => id === ids[at]) + 1;
      children.push(facts(["position", `${at} of ${ids.length - 1}`], ["id", String(ids[at])],
        ["loss", `${fixed(loss)} nats`], ["probability", percent(loss === null ? null : Math.exp(-loss))],
        ["rank", rank === 1 ? "its first guess" : rank ? `its guess number ${rank}` : `not among its first ${prediction.options[at - 1].length}`]),
      make("p.small.muted", {}, "What it expected here, before seeing it:"),
      optionList(prediction.options[at - 1], ids[at]));
    } else {
      children.push(facts(["position", `${at} of ${ids.length - 1}`], ["id", String(ids[at])]));
      if (predicts) children.push(make("p.small.muted", {}, "The first token stands alone: nothing came before to predict it from."));
      else if (prediction) children.push(make("p.small.muted", {}, "What the head says at this position:"), optionList(prediction.options[at]));
    }
    if (predicts) {
      children.push(make("p.small.muted", { style: { "margin-top": "16px" } }, "And what comes after the whole text:"),
        optionList(prediction.options.at(-1)));
    }
    detail.replaceChildren(...children);
  };

  const text = tokenText("text", { label: "The text, token by token", first: predicts ? 0 : null,
    onpick: (at) => change({ at }),
    onlook: (at) => {
      looked = at;
      describe();
    } });
  const tint = () => text.spans.forEach((span, i) => paint(span, "surprise", predicts ? share(prediction.losses[i]) : null));
  const share = (loss) => (loss === null ? null : Math.min(1, loss / top));
  const given = report.streams.source ? [make("h3", {}, "Source, read by the encoder"),
    tokenText("source", { label: "The source, token by token", onpick: () => {} }).box,
    make("h3.between", {}, "Target, written by the decoder")] : [];
  const bar = predicts ? make("div.bar", {}, legend("surprise", "0: certain", `${fixed(top, 1)}: a blind guess`)) : null;
  const what = predicts
    ? ["The model reads from left to right and, at every position, names the token it expects next. ",
      "The more surprised it was by a token, the warmer the token's colour. Hover, click, or use the arrow keys."]
    : ["The tokens the model reads. It sees the whole text at once, so no token is a prediction and none has a loss."];
  section("text", "The text, as the model reads it", what,
    make("figure", {}, bar, make("div.split", {}, make("div", {}, ...given, text.box), detail), source()));
  onChange(["at"], () => {
    text.mark(state.at);
    describe();
  });
  redraws.push(tint);
  tint();
  text.mark(state.at);
  describe();
  return ["text", "The text"];
}
