"""The figures that a run ended with, in words: what its task judged the weights by, the best known first."""

from collections.abc import Mapping

from cutaway import spec
from cutaway.models import AnyModel
from cutaway.train.translating import BEAM

NUMBER, SHARE = "number", "share"
MEASURES = {
    "test_bleu": (NUMBER, f"BLEU on the test pairs, by a beam of {BEAM}"),
    "test_bleu_greedy": (NUMBER, "BLEU on the test pairs, greedily"),
    "validation_bleu": (NUMBER, f"BLEU on the pairs put aside, by a beam of {BEAM}"),
    "test_accuracy": (SHARE, "of the test sentences in the right class"),
    "accuracy": (SHARE, "of the sentences put aside in the right class"),
    "validation_accuracy": (SHARE, "of the hidden tokens told rightly, in the text put aside"),
    "exact_strings": (SHARE, "of new strings written without a fault"),
    "exact_lengths": (SHARE, "of longer strings than it learned from written without a fault"),
    "bits_per_byte": (NUMBER, "bits a byte on all the text put aside"),
    "perplexity": (NUMBER, "perplexity on all that was put aside"),
    "validation": (NUMBER, "{unit} on all that was put aside"),
    "validation_head": (NUMBER, "{unit} on its first nine tenths"),
    "validation_tail": (NUMBER, "{unit} on its last tenth"),
    "test": (NUMBER, "{unit} on the test examples"),
}


def unit_of(model: AnyModel) -> str:
    """What the model's loss is counted in."""
    plan = model.plan
    if isinstance(plan.head, spec.Classify):
        return "nats a sentence"
    hidden = isinstance(plan, spec.Single) and plan.stack.sees == "all"
    return "nats a hidden token" if hidden else "nats a token"


def in_words(figures: Mapping[str, float], unit: str) -> list[tuple[str, float, str, str]]:
    """Name, value, kind ("number" or "share") and meaning of each figure; of one not known here, its name."""
    order = [name for name in MEASURES if name in figures] + [n for n in figures if n not in MEASURES]
    known = ((name, *MEASURES.get(name, (NUMBER, name.replace("_", " ")))) for name in order)
    return [(name, figures[name], kind, meaning.format(unit=unit)) for name, kind, meaning in known]
