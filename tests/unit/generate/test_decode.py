"""Rows decoded together are the rows decoded alone; every row ends for its own reason; nothing is kept
silent.
"""

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from cutaway import spec
from cutaway.data.tasks import StringTask
from cutaway.data.tokenizer import byte_tokenizer, character_tokenizer
from cutaway.errors import ConfigError, ContextLengthError, LimitError
from cutaway.generate import Decoding, Sampling, complete, decode, stream
from cutaway.models import build
from tests.unit.generate.tiny import PAIRS, SINGLES, VOCAB, filled

BYTES = byte_tokenizer()
PROMPTS = [[3, 1, 4, 1, 5], [9], [2, 6, 5], [3, 5, 8, 9, 7, 9, 3], [2, 3, 8]]
GREEDY = Sampling(temperature=0)


@pytest.fixture(autouse=True)
def no_gradients():
    with torch.no_grad():
        yield


def decoded(model, prompts, sampling=GREEDY, max_tokens=12, rows=None):
    """Tokens and log-probabilities of each row, (rows, max_tokens) each."""
    begin = 1 if isinstance(model.plan, spec.Paired) else None
    decoding = Decoding(model, prompts, max_tokens=max_tokens, sampling=sampling, rows=rows, begin=begin)
    steps = [decoding.advance() for _ in range(max_tokens)]
    return [list(row) for row in zip(*(tokens for tokens, _ in steps), strict=True)], torch.tensor(
        [log_probabilities for _, log_probabilities in steps], dtype=torch.float64
    ).T


@pytest.mark.parametrize("name", SINGLES | PAIRS)
@pytest.mark.parametrize(
    "sampling", [GREEDY, Sampling(1.0, top_p=0.9, repetition_penalty=1.2, seed=4)], ids=str
)
def test_unequal_prompts_together_and_alone(name, sampling):
    model = filled((SINGLES | PAIRS)[name]())
    together, log_probabilities = decoded(model, PROMPTS, sampling)
    for row, prompt in enumerate(PROMPTS):
        alone, expected = decoded(model, [prompt], sampling, rows=[row])
        assert together[row] == alone[0]
        torch.testing.assert_close(log_probabilities[row], expected[0], rtol=0, atol=1e-10)
    assert (log_probabilities[0] - log_probabilities[1]).abs().max() > 1e-3  # the prompts matter


@pytest.mark.parametrize("name", ["gpt2", "small", "alternating"])
def test_prompts_read_in_chunks_are_the_same_prompts(name, monkeypatch):
    model = filled(SINGLES[name]())
    expected, expected_log = decoded(model, PROMPTS)
    for chunk in (1, 2, 3):
        monkeypatch.setattr(decode, "CHUNK", chunk)
        found, found_log = decoded(model, PROMPTS)
        assert found == expected
        torch.testing.assert_close(found_log, expected_log, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", SINGLES | PAIRS)
def test_greedy_decoding_is_the_most_likely_token_of_a_full_pass_each_time(name):
    model, prompt = filled((SINGLES | PAIRS)[name]()), PROMPTS[0]
    (found,), log_probabilities = decoded(model, [prompt])
    said = [1] if name in PAIRS else list(prompt)
    for place, token in enumerate(found):
        said_BL = torch.tensor([said])
        logits_BLV = model(torch.tensor([prompt]), said_BL) if name in PAIRS else model(said_BL)
        assert int(logits_BLV[0, -1].argmax()) == token
        assert (
            abs(float(logits_BLV[0, -1].log_softmax(-1)[token]) - float(log_probabilities[0, place])) < 1e-10
        )
        said.append(token)


def test_greedy_tokens_are_hugging_faces():
    """GPT-2 with the same random weights, prompts of unequal length padded on the left on both sides."""
    sizes = dict(vocab_size=VOCAB, n_positions=64, n_embd=16, n_layer=2, n_head=4, bos_token_id=None)
    other = GPT2LMHeadModel(GPT2Config(**sizes, eos_token_id=None)).eval().double()
    model = filled(SINGLES["gpt2"]())
    own, state = dict(model.named_parameters()), {}
    state["transformer.wte.weight"] = state["lm_head.weight"] = own["input.token.weight"]
    state["transformer.wpe.weight"] = own["input.position.weight"]
    for kind in ("weight", "bias"):
        state[f"transformer.ln_f.{kind}"] = own[f"final_norm.{kind}"]
        for depth in range(2):
            ours, theirs = f"blocks.{depth}", f"transformer.h.{depth}"
            qkv = torch.cat([own[f"{ours}.attn.{part}.{kind}"] for part in ("query", "key", "value")])
            found = {"attn.c_attn": qkv, "attn.c_proj": own[f"{ours}.attn.out.{kind}"]}
            found |= {"mlp.c_fc": own[f"{ours}.ffn.up.{kind}"], "mlp.c_proj": own[f"{ours}.ffn.down.{kind}"]}
            state |= {
                f"{theirs}.{part}.{kind}": value if kind == "bias" else value.T
                for part, value in found.items()
            }
            state[f"{theirs}.ln_1.{kind}"] = own[f"{ours}.mixer_norm.{kind}"]
            state[f"{theirs}.ln_2.{kind}"] = own[f"{ours}.ffn_norm.{kind}"]
    other.load_state_dict(state)
    tokens_BL, start_B = decode.pad_in_front(PROMPTS, torch.device("cpu"))
    mask_BL = (torch.arange(tokens_BL.size(1)) >= start_B[:, None]).long()
    theirs = other.generate(
        tokens_BL, attention_mask=mask_BL, max_new_tokens=12, do_sample=False, pad_token_id=0
    )
    assert theirs[:, tokens_BL.size(1) :].tolist() == decoded(model, PROMPTS)[0]


def bytes_model(seed: int = 0):
    """A model of bytes that says a bit of everything, the end token often."""
    model = filled(spec.small(2, 16, 2, vocab=260), seed=seed, dtype=torch.float32)
    with torch.no_grad():
        model.input.token.weight[256] *= 2.0
    return model


def test_rows_end_for_their_own_reasons_and_as_if_alone():
    model, prompts = bytes_model(), [f"prompt {i} of several" * (i % 3 + 1) for i in range(24)]
    asked = dict(max_tokens=40, sampling=Sampling(1.3, seed=2), stop=["e", "ab", "\ufffd\ufffd\ufffd"])
    together = complete(model, BYTES, prompts, **asked)
    assert {completion.finish for completion in together} == {"stop", "length", "end"}
    for batch in (1, 5):
        for one, other in zip(together, complete(model, BYTES, prompts, batch=batch, **asked), strict=True):
            assert (one.text, one.tokens, one.finish) == (other.text, other.tokens, other.finish)
            assert one.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-4)
    for completion in together:
        assert len(completion.tokens) == len(completion.log_probabilities) <= 40
        whole = BYTES.decode(completion.tokens)
        assert whole.startswith(completion.text)
        assert (completion.tokens[-1] == BYTES.end) == (completion.finish == "end")
        assert (len(completion.tokens) == 40) or completion.finish != "length"
        assert (completion.text == whole) == (completion.finish != "stop")
        assert not any(stop in completion.text for stop in asked["stop"])


@pytest.mark.parametrize("seed", range(6))
def test_streamed_pieces_are_the_completion(seed):
    model, asked = (
        bytes_model(),
        dict(max_tokens=60, sampling=Sampling(1.5, seed=seed), stop=["xyz", "q\ufffd"]),
    )
    pieces = list(stream(model, BYTES, "once", **asked))
    assert "".join(pieces) == complete(model, BYTES, ["once"], **asked)[0].text
    assert all(pieces) and len(pieces) > 1


def test_an_empty_prompt_begins_a_document():
    model, asked = bytes_model(), dict(max_tokens=5, sampling=Sampling(3.0, seed=1))
    decoding = Decoding(model, [[256]], vocab=257, **asked)
    expected = [decoding.advance()[0][0] for _ in range(5)]
    assert len(set(expected)) > 3
    assert list(complete(model, BYTES, [""], **asked)[0].tokens) == expected
    without_end = character_tokenizer("abc")
    with pytest.raises(LimitError, match="prompt 0 is empty"):
        complete(filled(spec.small(1, 16, 2, vocab=3)), without_end, [""])


def test_no_prompts_give_no_completions():
    assert complete(bytes_model(), BYTES, []) == []


def test_an_encoder_decoder_writes_from_its_start_token_to_its_end():
    task = StringTask(seed=0, letters=4)
    model = filled(spec.vaswani(1, 16, 2, 24, task.vocab, dropout=0.0))
    completions = complete(model, task.tokenizer(), ["Rabc", "Sd"], max_tokens=7, sampling=GREEDY)
    decoding = Decoding(
        model, [task.tokenizer().encode("Rabc").tolist()], max_tokens=7, sampling=GREEDY, begin=1
    )
    expected = [decoding.advance()[0][0] for _ in range(len(completions[0].tokens))]
    assert list(completions[0].tokens) == expected
    with pytest.raises(LimitError, match=r"prompt 0 is empty"):
        complete(model, task.tokenizer(), [""])
    with pytest.raises(LimitError, match=r"no <\|start\|>"):
        complete(model, BYTES, ["a"])


@pytest.fixture
def nothing_runs(monkeypatch):
    """Fails the test when a model computes anything."""

    def refuse(*_, **__):
        raise AssertionError("something was computed")

    monkeypatch.setattr(torch.nn.Linear, "forward", refuse)
    monkeypatch.setattr(torch.nn.Embedding, "forward", refuse)


def test_too_long_for_the_table_is_refused_before_anything_is_computed(nothing_runs):
    model = filled(spec.gpt2(1, 8, 2, 257, length=20))
    with pytest.raises(ContextLengthError, match=r"21 tokens.* 20"):
        complete(model, BYTES, ["short", "sixteen letters!"], max_tokens=5)
    with pytest.raises(ContextLengthError):
        stream(model, BYTES, "sixteen letters!", max_tokens=5)  # at the call, not at the first piece
    with pytest.raises(AssertionError, match="computed"):
        complete(model, BYTES, ["sixteen letters!"], max_tokens=4)


def test_exactly_as_long_as_the_table_works():
    model = filled(spec.gpt2(1, 8, 2, 257, length=20))
    assert len(complete(model, BYTES, ["sixteen letters!"], max_tokens=4, sampling=GREEDY)[0].tokens) == 4


@pytest.mark.parametrize(
    ("prompts", "message"),
    [([[]], "prompt 0 is empty"), ([[1], [2, -1]], "prompt 1: token -1"), ([[23]], "23.*22")],
)
def test_prompts_that_cannot_be_read_are_refused(prompts, message, nothing_runs):
    with pytest.raises(LimitError, match=message):
        Decoding(filled(SINGLES["gpt2"]()), prompts, max_tokens=1, sampling=GREEDY)


@pytest.mark.parametrize("value", [0, -1, 2**31])
def test_max_tokens_out_of_range(value, nothing_runs):
    with pytest.raises(LimitError, match="max_tokens"):
        complete(bytes_model(), BYTES, ["a"], max_tokens=value)


def test_a_model_in_training_mode_or_one_that_sees_all_is_refused():
    with pytest.raises(ConfigError, match="eval"):
        Decoding(build(SINGLES["gpt2"]()), [[1]], max_tokens=1, sampling=GREEDY)
    with pytest.raises(ConfigError, match="cannot decode"):
        Decoding(filled(spec.bert(1, 8, 2, VOCAB, 32)), [[1]], max_tokens=1, sampling=GREEDY).advance()


def test_decoding_draws_no_random_numbers_of_training():
    before = torch.random.get_rng_state()
    complete(bytes_model(), BYTES, ["a", "bc"], max_tokens=5)
    assert torch.equal(before, torch.random.get_rng_state())
