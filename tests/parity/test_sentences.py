"""How an encoder of sentences makes one vector of a text: as its folder says, read and written."""

import json

import pytest
import torch
import torch.nn.functional as F

import cutaway
from cutaway.errors import ConfigError, FileFormatError, InputMissingError
from tests.parity.test_checkpoint_use import TEXTS, folder

OLD = {"word_embedding_dimension": 16, "pooling_mode_mean_tokens": False}


def describe(path, *kinds: str, **pooling) -> None:
    """The files of sentence-transformers for modules of these kinds, as releases before 5.4 write them."""
    named = [{"idx": i, "name": str(i), "path": f"{i}_{kind}" if i else ""} for i, kind in enumerate(kinds)]
    for module, kind in zip(named, kinds, strict=True):
        module["type"] = f"sentence_transformers.models.{kind}"
        if kind == "Pooling":
            (path / module["path"]).mkdir()
            (path / module["path"] / "config.json").write_text(json.dumps(pooling))
    (path / "modules.json").write_text(json.dumps(named))


@pytest.mark.parametrize("said", [OLD | {"pooling_mode_cls_token": True}, {"pooling_mode": "cls"}])
def test_the_first_vector_counts_where_the_folder_says_so(said, tmp_path):
    theirs, pieces, path = folder("bert", tmp_path / "a")
    session = cutaway.load(path)
    mean = session.embed(TEXTS)
    describe(path, "Transformer", "Pooling", "Normalize", **said)
    found = cutaway.load(path)
    with torch.no_grad():
        rows = [theirs.bert(**pieces(text, return_tensors="pt")).last_hidden_state[0] for text in TEXTS]
    first = F.normalize(torch.stack([row[0] for row in rows]), dim=-1)
    assert (found.embed(TEXTS) - first).abs().max() < 1e-5
    assert torch.equal(found.embed(TEXTS, pool="mean"), mean) and (mean - first).abs().max() > 1e-2

    saved = found.save_pretrained(tmp_path / "b")
    assert torch.equal(cutaway.load(saved).embed(TEXTS), found.embed(TEXTS))
    for name in ("modules.json", "1_Pooling/config.json"):
        assert (saved / name).read_bytes() == (path / name).read_bytes()


@pytest.mark.parametrize(
    ("kinds", "said", "name"),
    [
        (("Transformer", "Pooling"), OLD | {"pooling_mode_max_tokens": True}, "max_tokens"),
        (("Transformer", "Pooling"), {"pooling_mode": ["cls", "mean"]}, "cls\\+mean"),
        (("Transformer", "Pooling", "Dense"), {"pooling_mode": "mean"}, "mean, then Dense"),
    ],
)
def test_what_is_not_built_is_refused_when_it_is_asked_for(kinds, said, name, tmp_path):
    _, _, path = folder("bert", tmp_path / "a")
    describe(path, *kinds, **said)
    session = cutaway.load(path)
    with pytest.raises(ConfigError, match=f"pool '{name}': unknown"):
        session.embed(TEXTS)
    assert session.embed(TEXTS, pool="cls").shape == (3, session.spec.width)
    assert ("Dense" in kinds) != (session.save_pretrained(tmp_path / "b") / "modules.json").is_file()


def test_the_mean_where_nothing_else_is_said(tmp_path):
    _, _, path = folder("bert", tmp_path)
    mean = cutaway.load(path).embed(TEXTS)
    describe(path, "Transformer", "Pooling", "Dropout", word_embedding_dimension=16)
    assert torch.equal(cutaway.load(path).embed(TEXTS), mean)


def test_files_that_are_damaged_are_named(tmp_path):
    _, _, path = folder("bert", tmp_path)
    describe(path, "Transformer", "Pooling", **OLD)
    with pytest.raises(FileFormatError, match=r"1_Pooling/config\.json: pooling_mode: must name a way"):
        cutaway.load(path)
    (path / "1_Pooling" / "config.json").unlink()
    with pytest.raises(InputMissingError, match=r"1_Pooling/config\.json"):
        cutaway.load(path)
    for damaged in ({}, [3], [{"type": "x.Pooling", "path": "../elsewhere"}]):
        (path / "modules.json").write_text(json.dumps(damaged))
        with pytest.raises(FileFormatError, match=r"modules\.json: "):
            cutaway.load(path)
