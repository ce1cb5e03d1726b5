"""The parameters of our models as the paper's theta, so that `cutaway.formal` computes with the same numbers.

`read` says what to take of a parameter: its value, or its gradient.
"""

from collections.abc import Callable

import numpy as np
from torch import nn

from cutaway import formal
from cutaway.models import Paired, Single
from cutaway.nn.attention import Attention
from cutaway.nn.block import Block

Read = Callable[[nn.Parameter], np.ndarray]


def value(parameter: nn.Parameter) -> np.ndarray:
    return parameter.detach().double().numpy().copy()


def slope(parameter: nn.Parameter) -> np.ndarray:
    assert parameter.grad is not None
    return parameter.grad.double().numpy().copy()


def heads_of(attention: Attention, read: Read = value) -> formal.MultiHeadWeights:
    """All heads stand below one another in a fast weight; the paper has a matrix for each."""
    projections = (attention.query, attention.key, attention.value)
    parts = [
        np.split(read(p), attention.heads) for linear in projections for p in (linear.weight, linear.bias)
    ]
    return formal.MultiHeadWeights(
        tuple(formal.AttentionWeights(*head) for head in zip(*parts, strict=True)),
        read(attention.out.weight),
        read(attention.out.bias),
    )


def layer_of(block: Block, read: Read = value) -> formal.LayerWeights:
    return formal.LayerWeights(
        W=heads_of(block.attn, read),
        gamma_1=read(block.mixer_norm.weight),
        beta_1=read(block.mixer_norm.bias),
        W_mlp1=read(block.ffn.up.weight),
        b_mlp1=read(block.ffn.up.bias),
        W_mlp2=read(block.ffn.down.weight),
        b_mlp2=read(block.ffn.down.bias),
        gamma_2=read(block.ffn_norm.weight),
        beta_2=read(block.ffn_norm.bias),
    )


def cross_layer_of(block: Block, read: Read = value) -> formal.CrossLayerWeights:
    return formal.CrossLayerWeights(
        W_dec=heads_of(block.attn, read),
        gamma_3=read(block.mixer_norm.weight),
        beta_3=read(block.mixer_norm.bias),
        W_ed=heads_of(block.cross, read),
        gamma_4=read(block.cross_norm.weight),
        beta_4=read(block.cross_norm.bias),
        W_mlp3=read(block.ffn.up.weight),
        b_mlp3=read(block.ffn.up.bias),
        W_mlp4=read(block.ffn.down.weight),
        b_mlp4=read(block.ffn.down.bias),
        gamma_5=read(block.ffn_norm.weight),
        beta_5=read(block.ffn_norm.bias),
    )


def pair_of(model: Paired, read: Read = value) -> formal.EDTransformerWeights:
    """theta of algorithm 8."""
    return formal.EDTransformerWeights(
        W_e=read(model.source.token.weight).T,
        W_p=read(model.source.position.weight).T,
        encoder=tuple(layer_of(block, read) for block in model.encoder.blocks),
        decoder=tuple(cross_layer_of(block, read) for block in model.decoder.blocks),
        W_u=read(model.head.out.weight),
    )


def encoder_of(model: Single, read: Read = value) -> formal.ETransformerWeights:
    """theta of algorithm 9."""
    return formal.ETransformerWeights(
        W_e=read(model.input.token.weight).T,
        W_p=read(model.input.position.weight).T,
        layers=tuple(layer_of(block, read) for block in model.blocks),
        W_f=read(model.head.transform.dense.weight),
        b_f=read(model.head.transform.dense.bias),
        gamma=read(model.head.transform.norm.weight),
        beta=read(model.head.transform.norm.bias),
        W_u=read(model.head.out.weight),
    )


def decoder_of(model: Single, read: Read = value) -> formal.DTransformerWeights:
    """theta of algorithm 10."""
    return formal.DTransformerWeights(
        W_e=read(model.input.token.weight).T,
        W_p=read(model.input.position.weight).T,
        layers=tuple(layer_of(block, read) for block in model.blocks),
        gamma=read(model.final_norm.weight),
        beta=read(model.final_norm.bias),
        W_u=read(model.head.out.weight),
    )
