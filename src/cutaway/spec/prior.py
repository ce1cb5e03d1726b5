"""Presets of the prior art: recurrent language models, and encoder-decoders from one vector to attention."""

from cutaway.spec.model import Init, Learned, NextToken, Tokens
from cutaway.spec.recurrent import (
    Additive,
    Cell,
    Convolutional,
    ConvolutionalWriter,
    LastState,
    Look,
    Multiplicative,
    Recurrence,
    Recurrent,
    RecurrentWriter,
    Seq2Seq,
    Summary,
)


def lstm(layers: int = 2, width: int = 256, vocab: int = 4096, dropout: float = 0.0) -> Recurrence:
    """A language model of LSTM layers (Hochreiter & Schmidhuber 1997; Zaremba et al. 2014), tied."""
    return language(layers, width, vocab, dropout, "lstm")


def gru(layers: int = 2, width: int = 256, vocab: int = 4096, dropout: float = 0.0) -> Recurrence:
    """A language model of GRU layers (Cho et al. 2014), tied."""
    return language(layers, width, vocab, dropout, "gru")


def language(layers: int, width: int, vocab: int, dropout: float, cell: Cell) -> Recurrence:
    """A recurrent language model; the head shares the embedding."""
    init = Init(None, width**-0.5, "same")
    return Recurrence(
        width, Tokens(vocab, dropout=dropout), layers, NextToken(bias=True), cell, dropout, init
    )


def sutskever(layers: int = 2, width: int = 256, vocab: int = 8000, dropout: float = 0.0) -> Seq2Seq:
    """Sutskever et al. 2014: LSTM to LSTM; all that the writer gets is the reader's last state."""
    return recurrent(Recurrent(layers, "lstm", dropout=dropout), LastState(), width, vocab)


def cho(layers: int = 1, width: int = 256, vocab: int = 8000, dropout: float = 0.0) -> Seq2Seq:
    """Cho et al. 2014: GRU to GRU; the last state is read again at every step."""
    return recurrent(Recurrent(layers, "gru", dropout=dropout), Summary(), width, vocab)


def bahdanau(layers: int = 1, width: int = 256, vocab: int = 8000, dropout: float = 0.0) -> Seq2Seq:
    """Bahdanau et al. 2014: a GRU that reads both ways, and additive attention."""
    return recurrent(Recurrent(layers, "gru", "both", dropout), Additive(), width, vocab)


def luong(layers: int = 2, width: int = 256, vocab: int = 8000, dropout: float = 0.0) -> Seq2Seq:
    """Luong et al. 2015: LSTM to LSTM, and multiplicative attention ("general")."""
    return recurrent(Recurrent(layers, "lstm", dropout=dropout), Multiplicative(), width, vocab)


def recurrent(reader: Recurrent, look: Look, width: int, vocab: int) -> Seq2Seq:
    """A recurrent encoder-decoder; one vocabulary, one embedding for both sides and the head."""
    tokens = Tokens(vocab, dropout=reader.dropout)
    writer = RecurrentWriter(reader.layers, look, reader.cell, reader.dropout)
    init = Init(None, width**-0.5, "same")
    return Seq2Seq(width, tokens, reader, writer, NextToken(bias=True), init=init)


def gehring(
    layers: int = 6,
    width: int = 256,
    vocab: int = 8000,
    kernel: int = 3,
    length: int = 1024,
    dropout: float = 0.0,
) -> Seq2Seq:
    """Gehring et al. 2017 (ConvS2S): gated convolutions, learned positions, attention in every layer."""
    tokens = Tokens(vocab, Learned(length), dropout=dropout)
    init = Init(None, width**-0.5, "same")
    return Seq2Seq(
        width,
        tokens,
        Convolutional(layers, kernel, dropout),
        ConvolutionalWriter(layers, kernel, dropout),
        NextToken(bias=True),
        init=init,
    )
