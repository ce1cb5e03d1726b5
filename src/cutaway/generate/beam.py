"""Beam search for any encoder-decoder: the best targets among those a few prefixes at a time lead to.

Lowerre (1976) for speech, Sutskever et al. (2014) for translation; what ends a search is fairseq's rule (Ott
et al. 2019). At each step every prefix of a source is continued by every token; the `beam` best that do not
end go on. One that ends among the best `beam` leaves and is kept, scored by log p / length^penalty (Wu et al.
2016 without their constants), its end token counted. A source is done when `beam` have ended, and before that
when no prefix can lead to a better one. That bound is exact for every penalty >= 0: log-probabilities are not
positive, so a prefix with log p leads to nothing above log p / limit^penalty, and stopping loses nothing.

Equal candidates: the one of the better prefix comes first, then the lower token id.

B source   E prefix of a source   C candidate   V vocabulary   P piece of it   T token of a piece
L target position   M source position
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import pad

from cutaway.errors import ConfigError, ContextLengthError, LimitError
from cutaway.generate.decode import RESERVED, pad_behind, positions
from cutaway.generate.prefixes import Hypothesis, Prefixes, Search
from cutaway.generate.sample import NEVER, check_whole
from cutaway.models.pair import Pair
from cutaway.nn.embed import Tokens
from cutaway.nn.heads import fine

BATCH_TOKENS = 2048  # of sources, padding counted
MOST_LOGITS = 2**24  # numbers in the scores of one step: with large vocabularies they bound the batch
PIECE = 64  # tokens whose best one is looked at first


def translate_ids(
    model: Pair,
    sources: Sequence[Sequence[int]],
    *,
    begin: int,
    end: int,
    beam: int = 5,
    best: int = 1,
    length_penalty: float = 1.0,
    max_tokens: int | Sequence[int],
    vocab: int | None = None,
    forbidden: Sequence[int] = (),
    batch_tokens: int = BATCH_TOKENS,
) -> list[list[Hypothesis]]:
    """The `best` targets of each source, the highest score first; fewer where fewer exist.

    Targets are written after `begin` and end with `end`. `max_tokens` is one limit, or one for each source;
    those it cut off stand behind all that ended, and only where fewer than `best` did. Tokens from `vocab` on
    and the `forbidden` are never written. Sources of like length are searched together, about `batch_tokens`
    at a time: which ones changes nothing but rounding. Raises ConfigError for a model in training mode or
    one that cannot decode, LimitError naming the source for one that is empty, too long or has an unknown
    token, CutawayError where the model's numbers are not finite.
    """
    search = Search(begin, end, beam, best, length_penalty, vocab, tuple(forbidden))
    given = [[int(token) for token in source] for source in sources]
    limits = [max_tokens] * len(given) if isinstance(max_tokens, int) else list(max_tokens)
    check_sources(model, given, limits, search)
    check_whole("batch_tokens", batch_tokens, 1, 2**31 - 1)
    if not given:
        return []
    batches = batched([len(source) for source in given], batch_tokens, most_sources(model, beam))
    found: list[list[Hypothesis]] = [[] for _ in given]
    for batch in batches:
        written = search_batch(model, [given[i] for i in batch], [limits[i] for i in batch], search)
        for place, hypotheses in zip(batch, written, strict=True):
            found[place] = hypotheses
    return found


def check_sources(
    model: Pair, sources: Sequence[Sequence[int]], limits: Sequence[int], search: Search
) -> None:
    """Raises what is wrong with a request before anything is computed."""
    if model.training:
        raise ConfigError("the model is in training mode, where dropout is random: call model.eval() first")
    if not isinstance(model.source, Tokens) or not isinstance(model.written, Tokens):
        raise ConfigError("this model does not read and write tokens: it cannot translate")
    model.check_decodes()
    known, most = model.source.token.num_embeddings, positions(model.source)
    for number, (source, limit) in enumerate(zip(sources, limits, strict=True)):
        check_whole("max_tokens", limit, 1, 2**31 - 1)
        if not source:
            raise LimitError(f"source {number} is empty: give at least one token")
        if min(source) < 0 or max(source) >= known:
            wrong = next(token for token in source if not 0 <= token < known)
            raise LimitError(f"source {number}: token {wrong}, but the model knows 0 to {known - 1}")
        if most is not None and len(source) > most:
            raise LimitError(
                f"source {number}: {len(source)} tokens, but the model has positions for {most}: shorten it"
            )
    written, most = model.written.token.num_embeddings, positions(model.written)
    if most is not None and 1 + max(limits, default=1) > most:
        raise ContextLengthError(1 + max(limits), most)
    forbidden = [("forbidden", token) for token in search.forbidden]
    for name, token in (("begin", search.begin), ("end", search.end), *forbidden):
        if not 0 <= token < written:
            raise LimitError(f"{name}: token {token}, but the model knows 0 to {written - 1}")


def most_sources(model: Pair, beam: int) -> int:
    """How many sources the scores of one step leave room for."""
    return max(1, MOST_LOGITS // (beam * model.vocab_matrix.size(0)))


def batched(lengths: Sequence[int], tokens: int, most: int) -> list[list[int]]:
    """The places of sources that are searched together, the longest first, so that little is padding."""
    order = sorted(range(len(lengths)), key=lambda place: -lengths[place])
    batches = []
    while order:
        size = max(1, min(most, tokens // lengths[order[0]]))
        batches.append(order[:size])
        order = order[size:]
    return batches


@torch.inference_mode()
def search_batch(
    model: Pair,
    sources: Sequence[Sequence[int]],
    limits: Sequence[int],
    search: Search,
) -> list[list[Hypothesis]]:
    """The best targets of a few sources that are searched in step; each leaves the batch when it is done."""
    device = model.vocab_matrix.device
    source_BM, real_BM = pad_behind(sources, device)
    state = model.start(source_BM, padding_BM=None if bool(real_BM.all()) else real_BM)
    state.reserve(min(max(limits), RESERVED))
    progress = Prefixes(search, limits)
    forbidden = torch.tensor(search.forbidden, dtype=torch.long, device=device)
    tokens, totals = np.full(len(sources), search.begin), np.zeros((len(sources), 1))
    while True:
        logits = model.step(torch.from_numpy(tokens).to(device)[:, None], state)[:, -1]
        log_probability_EV = fine(logits).log_softmax(-1)
        if search.forbidden:
            log_probability_EV.index_fill_(-1, forbidden, NEVER)
        log_probability_EV = log_probability_EV[:, : search.vocab]
        value, index = candidates(
            log_probability_EV.unflatten(0, totals.shape),
            torch.from_numpy(totals).to(device),
            2 * search.beam,
        )
        rows, tokens, totals = progress.advance(value, index, log_probability_EV.size(-1))
        if not len(rows):
            return progress.hypotheses()
        if not np.array_equal(rows, np.arange(logits.size(0))):
            state.select(torch.from_numpy(rows).to(device))


def candidates(log_probability_BEV: Tensor, total_BE: Tensor, count: int) -> tuple[np.ndarray, np.ndarray]:
    """The `count` best sums of a prefix and a token, in falling order: sums (B, C), and E * V + V places.

    The vocabulary is looked at in pieces. The best `count` are in the `count` pieces with the best maxima:
    anything outside has at least one better candidate in each of them. Only those are sorted. What is missing
    to `count` has the sum minus infinity.
    """
    V = log_probability_BEV.size(-1)
    whole = V // PIECE * PIECE
    best_BEP = log_probability_BEV[..., :whole].unflatten(-1, (-1, PIECE)).amax(-1)
    if whole < V:
        rest = log_probability_BEV[..., whole:].amax(-1, keepdim=True)
        best_BEP = torch.cat([best_BEP, rest], dim=-1)
    P = best_BEP.size(-1)
    # In float64: sums that differ in the model's own precision must not become equal.
    best_BEP = best_BEP.double() + total_BE[..., None]
    piece_BC = best_BEP.flatten(1).sort(descending=True, stable=True).indices[:, :count].sort().values
    prefix_BC = piece_BC // P
    token_BCT = (piece_BC % P)[..., None] * PIECE + torch.arange(PIECE, device=piece_BC.device)
    place_BCT = prefix_BC[..., None] * V + token_BCT.clamp(max=V - 1)
    sum_BCT = log_probability_BEV.flatten(1).gather(1, place_BCT.flatten(1)).view_as(place_BCT).double()
    sum_BCT = (sum_BCT + total_BE.gather(1, prefix_BC)[..., None]).masked_fill_(token_BCT >= V, NEVER)
    value, order = (found[:, :count] for found in sum_BCT.flatten(1).sort(descending=True, stable=True))
    place = place_BCT.flatten(1).gather(1, order)
    missing = count - value.size(1)
    found = torch.stack([pad(value, (0, missing), value=NEVER), pad(place, (0, missing)).double()])
    value, place = found.cpu().numpy()  # one transfer: a place is below 2^53
    return value, place.astype(np.int64)
