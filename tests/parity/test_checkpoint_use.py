"""What one does with a loaded checkpoint, against transformers with the same folder: text in, answers out."""

import subprocess
import sys

import pytest
import tokenizers
import torch
import torch.nn.functional as F
import transformers as hf
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors

import cutaway
from cutaway.app.cli import main
from cutaway.errors import ConfigError
from cutaway.study import trace
from tests.parity.checkpoints import CASES, Case, redraw, save

NAMES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefgh", *(f"##{letter}" for letter in "abcdefgh")]
TEXTS = ["ab ba", "hed a bad cab", "g"]


def word_pieces() -> hf.PreTrainedTokenizerFast:
    """BERT's kind of tokenizer, over eight letters."""
    inner = tokenizers.Tokenizer(models.WordPiece({n: i for i, n in enumerate(NAMES)}, unk_token="[UNK]"))
    inner.normalizer = normalizers.BertNormalizer()
    inner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    inner.add_special_tokens(NAMES[:5])
    inner.post_processor = processors.TemplateProcessing(
        "[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", [("[CLS]", 2), ("[SEP]", 3)]
    )
    inner.decoder = decoders.WordPiece()
    special = dict(
        zip(("pad_token", "unk_token", "cls_token", "sep_token", "mask_token"), NAMES, strict=False)
    )
    return hf.PreTrainedTokenizerFast(tokenizer_object=inner, **special)


def folder(name: str, path, **config):
    """A saved case whose vocabulary is that of the word pieces, its tokenizer beside it."""
    of = CASES[name]
    of = Case(of.family, of.model, of.config | {"vocab_size": len(NAMES)} | config, of.shows)
    theirs, pieces = of.build(torch.float32), word_pieces()
    pieces.save_pretrained(save(theirs, path))
    return theirs, pieces, path


@torch.no_grad()
def test_holes_are_filled_alike(tmp_path):
    theirs, pieces, path = folder("bert", tmp_path)
    text = "ab [MASK] bad [MASK]"
    read = pieces(text, return_tensors="pt")
    places = (read["input_ids"][0] == 4).nonzero().flatten().tolist()
    assert read["input_ids"][0, [0, -1]].tolist() == [2, 3] and len(places) == 2
    chances = theirs(**read).logits[0, places].softmax(-1)
    found = cutaway.load(path).fill(text, best=3)
    for guesses, row in zip(found, chances, strict=True):
        want = row.topk(3)
        assert [guess.chance for guess in guesses] == pytest.approx(want.values.tolist(), abs=1e-5)
        names = [pieces.convert_ids_to_tokens(number) for number in want.indices.tolist()]
        assert [guess.text.strip() for guess in guesses] == [
            n if not n.startswith("[") else "" for n in names
        ]


@torch.no_grad()
def test_classes_are_scored_alike(tmp_path):
    theirs, pieces, path = folder("bert classes", tmp_path)
    read = pieces(TEXTS, padding=True, return_tensors="pt")
    read.pop("token_type_ids", None)
    want = theirs(**read).logits.softmax(-1)
    for row, chances in zip(want.tolist(), cutaway.load(path).classify(TEXTS), strict=True):
        assert list(chances) == ["LABEL_0", "LABEL_1", "LABEL_2"]
        assert list(chances.values()) == pytest.approx(row, abs=1e-5)
    assert (want.amax(-1) - want.amin(-1)).min() > 0.05
    with pytest.raises(ConfigError, match="labelled"):
        cutaway.load(folder("bert bare", tmp_path / "bare")[2]).classify("ab")


@pytest.mark.parametrize("pool", ["mean", "cls"])
@torch.no_grad()
def test_texts_are_embedded_alike(pool, tmp_path):
    theirs, pieces, path = folder("bert bare", tmp_path)
    read = pieces(TEXTS, padding=True, return_tensors="pt")
    read.pop("token_type_ids", None)
    states, real = theirs(**read).last_hidden_state, read["attention_mask"][..., None]
    want = F.normalize((states * real).sum(1) / real.sum(1) if pool == "mean" else states[:, 0], dim=-1)
    found = cutaway.load(path).embed(TEXTS, pool=pool)
    assert (found - want).abs().max() < 1e-5 and (want[0] - want[1]).abs().max() > 0.05


@torch.no_grad()
def test_texts_are_continued_and_scored_alike(tmp_path):
    session = cutaway.load(own_llama(tmp_path))
    theirs = hf.LlamaForCausalLM.from_pretrained(tmp_path).eval()
    ids = torch.from_numpy(session.tokenizer.encode("the old bridge"))[None]
    asked = {"max_new_tokens": 12, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    want = theirs.generate(ids, **asked)[0, ids.size(1) :].tolist()
    found = session.complete(["the old bridge"], 12, temperature=0.0)[0]
    assert list(found.tokens)[: len(want)] == want[: len(found.tokens)] and len(set(want)) > 3
    assert session.loss("the old bridge").nats == pytest.approx(theirs(ids, labels=ids).loss.item(), abs=1e-5)


def own_llama(path):
    """A Llama over bytes, with the byte tokenizer, as transformers saves it."""
    from cutaway import spec
    from cutaway.data.tokenizer import byte_tokenizer
    from cutaway.models import build
    from cutaway.session import Session

    model = build(spec.llama3(2, 16, 4, 2, 24, 257)).float()
    redraw(model, seed=4)
    with torch.no_grad():
        model.input.token.weight[256] = 0  # the end: other tokens are likelier
    made = Session(model.eval(), byte_tokenizer(), 64).save_pretrained(path / "ours")
    for file in made.iterdir():
        file.rename(path / file.name)
    made.rmdir()
    return path


CHILD = """
import sys
import cutaway, torch
seen = []
BAD = ("socket.", "subprocess.", "os.system", "os.exec", "os.spawn", "os.fork", "pickle.find_class")
sys.addaudithook(lambda event, arguments: seen.append(event) if event.startswith(BAD) else None)
session = cutaway.load(sys.argv[1])
session.embed("ab")
foreign = [name for name in sys.modules if name.split(".")[0] in ("transformers", "huggingface_hub", "gguf")]
print(seen, foreign)
"""


def test_loading_opens_no_socket_and_imports_no_transformers(tmp_path):
    path = folder("bert bare", tmp_path)[2]
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] []"


@torch.no_grad()
def test_a_loss_reads_what_the_tokenizer_puts_in_front_of_a_text(tmp_path, capsys):
    theirs, pieces, path = folder("llama", tmp_path)
    read = pieces("hed a bad cab", return_tensors="pt")["input_ids"][:, :-1]  # without [SEP] behind it
    session = cutaway.load(path)
    found = session.loss("hed a bad cab", per_token=True)
    assert (
        read[0, 0] == 2
        and found.tokens_E.tolist() == read[0, 1:].tolist()
        and found.count == len(read[0]) - 1
    )
    assert found.nats == pytest.approx(theirs(read, labels=read).loss.item(), abs=1e-5)
    seen = trace(session, "hed a bad cab", "logits")["logits"]
    assert (seen - theirs(read).logits).abs().max() < 1e-4
    for asked in (["skip", "--at", "blocks.0"], ["switch-off"]):
        assert main(["study", asked[0], "-m", str(path), "hed a bad cab", *asked[1:]]) == 0
    assert f"{found.nats:.4f}" in capsys.readouterr().out
