"""The strict reader: nothing is ignored, a refusal names path and nearest name, round trips are exact."""

import copy
import json
import tomllib
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cutaway import spec
from cutaway.errors import ConfigError, CutawayError, FileFormatError, InputMissingError
from cutaway.spec.read import build_preset, preset_arguments, read_model, read_recipe
from cutaway.spec.write import write_model, write_recipe


def recipe(preset="small", **changes):
    return replace(spec.Recipe("demo", spec.PRESETS[preset](), spec.Text(("stdlib:",))), **changes)


def as_table(value):
    return tomllib.loads(write_recipe(value))


@pytest.mark.parametrize("name", spec.PRESETS)
def test_every_preset_survives_json_and_toml(name):
    model = spec.PRESETS[name]()
    assert read_model(json.loads(json.dumps(write_model(model)))) == model
    assert read_recipe(as_table(recipe(name))) == recipe(name)
    other = spec.PRESETS[name](layers=3)
    assert read_model(write_model(other)) != model, "a changed model must not read as the old one"


def test_a_number_left_out_survives_toml_where_the_default_is_a_number():
    plain = recipe(run=spec.Run(clip=None))
    assert 'clip = "none"' in write_recipe(plain)
    assert read_recipe(as_table(plain)).run.clip is None


@pytest.mark.parametrize(
    "source", ["a b", 'say "hi"\\', "tab\there", "Zeile\nzwei", "del\x7f", "ünï€😀", "\x01"]
)
def test_any_text_survives_toml(source):
    odd = recipe(data=spec.Text((source, "x")))
    assert read_recipe(as_table(odd)) == odd


@given(st.floats(0, 1e9, allow_nan=False), st.integers(-(2**63), 2**63 - 1), st.booleans())
def test_any_number_survives_toml(rate, seed, tied):
    model = spec.llama3(tied=tied)
    run = spec.Run(seed=seed, optimizer=spec.AdamW(rate=rate))
    assert read_recipe(as_table(recipe(model=model, run=run))) == recipe(model=model, run=run)


def test_a_preset_and_a_few_values_are_a_model():
    table = as_table(recipe()) | {"model": {"preset": "small", "layers": 3, "width": 128}}
    assert read_recipe(table).model == spec.small(layers=3, width=128)


@pytest.mark.parametrize("name", spec.PRESETS)
def test_a_presets_arguments_are_a_record(name):
    assert build_preset(preset_arguments(name)()) == spec.PRESETS[name]()


def tables(value, path=""):
    """Every table inside nested tables and lists, with the path that messages use."""
    if isinstance(value, dict):
        yield path, value
        for key, item in value.items():
            yield from tables(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from tables(item, f"{path}[{index}]")


@pytest.mark.parametrize("name", ["small", "t5", "bert", "vit"])
def test_an_unknown_key_is_refused_at_every_depth_with_its_path(name):
    good = as_table(recipe(name))
    paths = [path for path, _ in tables(good)]
    assert len(paths) > 10
    for path in paths:
        table = copy.deepcopy(good)
        dict(tables(table))[path]["surprise"] = 1
        with pytest.raises(ConfigError) as refused:
            read_recipe(table)
        where = f"{path}.surprise" if path else "surprise"
        assert str(refused.value).startswith(f"recipe: {where}: unknown key; "), where
    assert read_recipe(good) == recipe(name)


def change(path, value):
    """The good table of a small model with one value changed, by a path such as run.optimizer.rate."""
    table = as_table(recipe())
    *folders, key = path.replace("[0]", ".0").split(".")
    inside = table
    for part in folders:
        inside = inside[int(part) if part.isdigit() else part]
    inside[key] = value
    return table


MIXER = "model.stack.blocks[0].mixer"
REFUSED = [
    (f"{MIXER}.head", 4, f"{MIXER}.head: unknown key; did you mean heads?"),
    (f"{MIXER}.kind", "Atention", f"{MIXER}.kind: 'Atention' unknown; did you mean Attention?"),
    (f"{MIXER}.kind", "RMSNorm", f"{MIXER}.kind: 'RMSNorm' unknown; "),
    (f"{MIXER}.kind", ["Attention"], f"{MIXER}.kind: a list unknown; "),
    (f"{MIXER}.heads", "4", f"{MIXER}.heads: '4' is not a whole number"),
    (f"{MIXER}.heads", 4.0, f"{MIXER}.heads: 4.0 is not a whole number"),
    (f"{MIXER}.heads", True, f"{MIXER}.heads: true is not a whole number"),
    (f"{MIXER}.heads", 0, f"{MIXER}.heads: 0 must be at least 1"),
    (f"{MIXER}.kv_heads", 3, f"{MIXER}.kv_heads: 3 does not divide heads, 4"),
    (f"{MIXER}.bias", "qq", f"{MIXER}.bias: 'qq' must name some of q, k, v, o"),
    (f"{MIXER}.rotary.pairs", "half", f"{MIXER}.rotary.pairs: 'half' unknown; did you mean halves?"),
    (f"{MIXER}.rotary.fraction", 0.01, f"{MIXER}.rotary.fraction: rotates 0 numbers of a head"),
    (f"{MIXER}.qk_norm", "none at all", f"{MIXER}.qk_norm: 'none at all' is not a table with a kind"),
    ("model.stack.blocks", {}, "model.stack.blocks: a table is not a list"),
    ("model.stack.blocks", [], "model.stack.blocks: () must not be empty"),
    ("model.stack.blocks", ["x"], "model.stack.blocks[0]: 'x' is not a table"),
    ("model.stack.layers", 2**70, "model.stack.layers: a whole number of more than 64 bits"),
    ("model.stack.distinct", 7, "model.stack.distinct: 7 must be at most layers, 6"),
    ("model.head.tied", 1, "model.head.tied: 1 is not true or false"),
    ("model.input.dropout", 1.0, "model.input.dropout: 1.0 must be at least 0 and less than 1"),
    ("model.input.vocab", 0, "model.input.vocab: 0 must be at least 1"),
    ("model", "small", "model: 'small' is not a table with a kind; known: Single, Paired"),
    ("model", {}, "model.kind: missing; known: Single, Paired"),
    ("model", {"kind": "Single"}, "model.width: missing; Single needs it"),
    ("model", {"preset": "smal"}, "model.preset: 'smal' unknown; did you mean small?"),
    ("model", {"preset": 3}, "model.preset: 3 unknown; known: gpt2"),
    ("model", {"preset": "small", "layer": 3}, "model.layer: unknown key; did you mean layers?"),
    ("model", {"preset": "small", "kind": "Single"}, "model.kind: unknown key; "),
    ("model", {"preset": "small", "heads": 0}, "model.heads: 0 must be at least 1"),
    ("model", {"preset": "gpt2", "heads": 5}, f"{MIXER}.heads: 5 does not divide width, 768"),
    ("data.source", "stdlib:", "data.source: 'stdlib:' is not a list"),
    ("data.source", [], "data.source: () must not be empty"),
    ("data.source", ["a", 3], "data.source[1]: 3 is not a string"),
    ("data.source", ["\ud800"], "data.source[0]: a string that is not valid Unicode"),
    ("data.validation", 1, "data.validation: 1.0 must be more than 0 and less than 1"),
    ("run.steps", 0, "run.steps: 0 must be at least 1"),
    ("run.accumulate", 5, "run.accumulate: 5 does not divide batch, 32"),
    ("run.clip", 0.0, "run.clip: 0.0 must be more than 0"),
    ("run.precision", "fp16", "run.precision: 'fp16' unknown; did you mean bf16?"),
    ("run.optimizer.rate", float("nan"), "run.optimizer.rate: nan is not a finite number"),
    ("run.optimizer.rate", float("inf"), "run.optimizer.rate: inf is not a finite number"),
    ("run.optimizer.rate", -1.0, "run.optimizer.rate: -1.0 must be at least 0"),
    ("run.optimizer.others.betas", [0.9], "run.optimizer.others.betas: 1 values, but 2 belong here"),
    ("run.optimizer.others.betas", [0.9, "x"], "run.optimizer.others.betas[1]: 'x' is not a number"),
    ("run.optimizer.others.betas", [0.9, float("nan")], "run.optimizer.others.betas: nan is not a finite"),
    ("run.schedule.kind", "Cosin", "run.schedule.kind: 'Cosin' unknown; did you mean Cosine?"),
    ("name", "../x", "name: '../x' must be a plain name"),
    ("name", "..", "name: '..' must be a plain name"),
    ("format", 2, "format: 2 unknown; this version of Cutaway reads format 1"),
    ("format", True, "format: true unknown"),
]


@pytest.mark.parametrize(("path", "value", "message"), REFUSED, ids=[f"{p}={v!r:.20}" for p, v, _ in REFUSED])
def test_a_wrong_value_is_refused_with_path_rule_and_nearest_name(path, value, message):
    with pytest.raises(ConfigError) as refused:
        read_recipe(change(path, value))
    assert str(refused.value).startswith(f"recipe: {message}")
    assert "\n" not in str(refused.value)


def with_blocks(stack, **changes):
    return replace(stack, blocks=tuple(replace(block, **changes) for block in stack.blocks))


SINGLE, PAIR = spec.small(), spec.t5()
LOCAL, GLOBAL = (
    replace(SINGLE.stack.blocks[0], mixer=spec.Attention(heads, window=window))
    for heads, window in ((4, 2), (8, None))
)


def stack(**changes):
    return replace(SINGLE, stack=replace(SINGLE.stack, **changes))


def sides(**changes):
    return replace(PAIR, **{side: with_blocks(getattr(PAIR, side), **made) for side, made in changes.items()})


def biased(sees="past", **sizes):
    return stack(sees=sees, bias=spec.RelativeBias(**sizes))


MISFITS = [
    (
        replace(SINGLE, stack=with_blocks(SINGLE.stack, cross=spec.Attention(4))),
        "stack.blocks[0].cross: a Single has no memory",
    ),
    (sides(encoder={"cross": spec.Attention(8)}), "encoder.blocks[0].cross: an encoder has no memory"),
    (sides(decoder={"cross": None}), "decoder.blocks: none has `cross`"),
    (
        sides(decoder={"cross": spec.Attention(8, rotary=spec.Rotary())}),
        "decoder.blocks[0].cross.rotary: mem",
    ),
    (
        sides(decoder={"cross": spec.Attention(8, window=3)}),
        "decoder.blocks[0].cross.window: the whole memory",
    ),
    (biased(buckets=1), "stack.bias.buckets: 1 must be at least 2"),
    (biased("all", buckets=3), "stack.bias.buckets: 3 must be at least 4"),
    (biased(buckets=32, distance=16), "stack.bias.distance: 16 must be more than 16"),
    (biased("all", buckets=32, distance=8), "stack.bias.distance: 8 must be more than 8"),
    (stack(distinct=1, blocks=(LOCAL, GLOBAL)), "stack.distinct: 1 leaves out blocks[1]; must be at least 2"),
    (stack(layers=1, blocks=(LOCAL, GLOBAL)), "stack.layers: 1 leaves out blocks[1]; must be at least 2"),
    (stack(blocks=(LOCAL, GLOBAL), bias=spec.ALiBi()), "stack.bias: is one for all blocks"),
]
FITTING = [
    sides(decoder={"cross": spec.Attention(8, qk_norm=spec.RMSNorm())}),
    biased(buckets=2, distance=2),
    biased("all", buckets=4, distance=2),
    stack(distinct=2, blocks=(LOCAL, GLOBAL)),
    stack(layers=2, blocks=(LOCAL, LOCAL), bias=spec.ALiBi()),
    replace(SINGLE, init=spec.Init(std=0.0)),
]


@pytest.mark.parametrize(("model", "message"), MISFITS, ids=[message[:30] for _, message in MISFITS])
def test_a_tree_that_does_not_fit_together_is_refused(model, message):
    with pytest.raises(ConfigError) as refused:
        read_model(write_model(model))
    assert str(refused.value).startswith(f"model: {message}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("model", FITTING)
def test_a_tree_that_just_fits_is_read(model):
    assert read_model(write_model(model)) == model


@pytest.mark.parametrize("longest", [1, 2])
def test_a_range_without_a_length_to_hold_out_is_refused(longest):
    table = as_table(recipe("t5", data=spec.Reversal(longest=longest)))
    with pytest.raises(ConfigError, match=f"recipe: data.longest: {longest} leaves no length .* at least 3"):
        read_recipe(table)
    assert read_recipe(as_table(recipe("t5", data=spec.Reversal(longest=3)))).data.longest == 3


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({}, "test: '' and 0 folds: name a file of test sentences, or give folds"),
        ({"test": "b", "folds": 10, "fold": 1}, "test: 'b' and 10 folds: name a file .*, not both"),
        ({"folds": 1, "fold": 1}, "folds: 1 must be 2 or more, or 0"),
        ({"folds": 10}, "fold: 0 is none of 10 folds: they count from 1"),
        ({"folds": 10, "fold": 11}, "fold: 11 is none of 10 folds"),
        ({"folds": 10, "fold": -1}, "fold: -1 is none of 10 folds"),
        ({"test": "b", "fold": 3}, "fold: 3 is none of 0 folds: .* 0 where there are none"),
    ],
)
def test_folds_stand_in_place_of_a_test_file(parts, message):
    with pytest.raises(ConfigError, match=f"^recipe: data.{message}"):
        read_recipe(as_table(recipe("bert", data=spec.Labelled("a", "b", **parts))))
    for fits in ({"test": "b"}, {"folds": 10, "fold": 1}, {"folds": 10, "fold": 10}):
        data = spec.Labelled("a", "b", **fits)
        assert read_recipe(as_table(recipe("bert", data=data))).data == data


def test_the_file_begins_the_message(tmp_path):
    path = tmp_path / "recipe.toml"
    path.write_text(write_recipe(recipe()).replace("heads =", "head ="))
    with pytest.raises(ConfigError) as refused:
        read_recipe(path)
    assert str(refused.value) == f"{path}: {MIXER}.head: unknown key; did you mean heads?"


def test_a_model_says_its_format():
    good = write_model(spec.small())
    assert good["format"] == 1
    for wrong in ({**good, "format": 0}, {k: v for k, v in good.items() if k != "format"}, [good], None):
        with pytest.raises(ConfigError):
            read_model(wrong)


class Conveyor(spec.Mixer):
    """An intermediate class that is no record itself."""


@dataclass(frozen=True)
class Shift(Conveyor):
    """A part from outside the package."""

    places: int = 1
    norm: spec.Norm | None = None


@dataclass(frozen=True)
class Wide(spec.Attention):
    """A record that refines one of ours, which cross-attention also takes."""

    extra: int = 0


def with_mixer(mixer, cross=None):
    if cross is not None:
        model = spec.t5()
        return replace(model, decoder=with_blocks(model.decoder, mixer=mixer, cross=cross))
    model = spec.small()
    return replace(model, stack=with_blocks(model.stack, mixer=mixer))


def test_a_record_from_outside_stands_in_its_slot():
    model = with_mixer(Shift(3, spec.LayerNorm()), cross=Wide(heads=2, extra=5))
    table = write_model(model)
    assert table["decoder"]["blocks"][0]["mixer"]["kind"] == "Shift"
    assert read_model(table) == model
    assert read_recipe(as_table(recipe(model=model))).model == model


def test_of_a_record_defined_again_the_last_counts():
    def again(default):
        @dataclass(frozen=True)
        class Twice(spec.Mixer):
            number: int = default

        return Twice

    first, second = again(1), again(2)
    read = read_model(write_model(with_mixer(first()))).stack.blocks[0].mixer
    assert type(read) is second and type(read) is not first


def test_a_name_taken_by_two_records_is_refused():
    table = write_model(with_mixer(Shift()))

    @dataclass(frozen=True)
    class Shift2(spec.Mixer):
        pass

    Shift2.__name__ = "Shift"
    try:
        with pytest.raises(ConfigError, match="two records are called Shift"):
            read_model(table)
    finally:
        Shift2.__name__ = "Shift2"
    assert read_model(table).stack.blocks[0].mixer == Shift()


def test_a_records_own_refusal_is_told_with_its_path():
    @dataclass(frozen=True)
    class Fussy(spec.Mixer):
        size: int = 1

        def __post_init__(self):
            if self.size == 3:
                raise ValueError("three is unlucky")

    table = write_model(with_mixer(Fussy()))
    table["stack"]["blocks"][0]["mixer"]["size"] = 3
    with pytest.raises(ConfigError, match=r"model: stack.blocks\[0\].mixer: three is unlucky"):
        read_model(table)


HOSTILE = {
    "empty": b"",
    "not toml": b"format = = 1",
    "deep lists": b"format = 1\nname = " + b"[" * 100_000,
    "deep tables": b"[" + b".".join([b"a"] * 100_000) + b"]",
    "deep inline": b"a = " + b"{a = " * 5_000 + b"1" + b"}" * 5_000,
    "not utf-8": b'name = "\xff"',
    "nul": b'name = "\x00"',
    "date": b"format = 1979-05-27",
    "a huge number": b"format = " + b"9" * 5000,
    "a huge hexadecimal": b"format = 0x" + b"f" * 5000,
    "infinite": b"format = inf",
    "key of line ends": b'"a\\nb" = 1',
    "long key": b"a" * 100_000 + b" = 1",
    "too long": b"# " + b"x" * 2**21,
    "utf-16": "format = 1".encode("utf-16"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("suffix", ["toml", "json"])
def test_a_hostile_file_ends_in_one_line(tmp_path, name, suffix):
    path = tmp_path / f"recipe.{suffix}"
    path.write_bytes(HOSTILE[name])
    with pytest.raises((ConfigError, FileFormatError)) as refused:
        read_recipe(path)
    message = str(refused.value)
    assert message.startswith(str(path)) and "\n" not in message and len(message) < 500 + len(str(path))


def test_a_missing_file_or_a_folder_is_missing_input(tmp_path):
    for path in (tmp_path / "none.toml", tmp_path):
        with pytest.raises(InputMissingError):
            read_recipe(path)


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from(["Attention", "none", "pre"]),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.dictionaries(st.text(max_size=5) | st.just("kind"), inside, max_size=3)
    ),
    max_leaves=5,
)


@settings(max_examples=60)
@given(st.data())
def test_whatever_is_changed_only_typed_errors_come_out(data):
    table = copy.deepcopy(GOOD[data.draw(st.sampled_from(sorted(GOOD)))])
    for _ in range(data.draw(st.integers(1, 3))):
        inside = data.draw(st.sampled_from([t for _, t in tables(table)]))
        key = data.draw(st.sampled_from([*inside, "kind", "preset"]))
        if data.draw(st.booleans()):
            inside[key] = data.draw(values)
        else:
            inside.pop(key, None)
    try:
        read = read_recipe(table)
    except CutawayError as refused:
        assert str(refused).startswith("recipe: ") and "\n" not in str(refused)
    else:
        assert read_recipe(as_table(read)) == read


GOOD = {name: as_table(recipe(name)) for name in ("small", "t5")}


@given(st.binary(max_size=200))
def test_whatever_the_bytes_only_typed_errors_come_out(tmp_path_factory, data):
    path = Path(tmp_path_factory.getbasetemp()) / "recipe.toml"
    path.write_bytes(data)
    with pytest.raises(CutawayError):
        read_recipe(path)
