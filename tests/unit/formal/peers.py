"""The oracles: GPT-2 and BERT of transformers, torch.nn's encoder and decoder; small, random, no epsilon.

`read_*` turns their parameters into the paper's theta. `read` says what to take of a parameter, its value or
its gradient, so that the gradient of theta is read by the same map.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from transformers import BertConfig, BertForMaskedLM, GPT2Config, GPT2LMHeadModel

from cutaway import formal

Read = Callable[[nn.Parameter], np.ndarray]


def value(parameter: nn.Parameter) -> np.ndarray:
    return parameter.detach().numpy().copy()


def slope(parameter: nn.Parameter) -> np.ndarray:
    return parameter.grad.numpy().copy()


def redraw(model: nn.Module, seed: int) -> nn.Module:
    """Every parameter anew, gains about 1 and the rest about 0: those of a fresh model hide mistakes."""
    generator = torch.Generator().manual_seed(seed)
    model = model.double()
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            mean = float(isinstance(module, nn.LayerNorm) and name == "weight")
            nn.init.normal_(parameter, mean, 0.4, generator=generator)
    return model


def split_heads(W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o, H: int) -> formal.MultiHeadWeights:
    """Fused projections, all heads below one another, cut into heads."""
    parts = [np.split(W, H) for W in (W_q, b_q, W_k, b_k, W_v, b_v)]
    return formal.MultiHeadWeights(
        tuple(formal.AttentionWeights(*head) for head in zip(*parts, strict=True)), W_o, b_o
    )


# GPT-2 ------------------------------------------------------------------------------------------------------


def make_gpt2(seed=0, *, N_V=11, l_max=7, L=2, H=2, d_e=8, d_mlp=12) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=N_V, n_positions=l_max, n_layer=L, n_head=H, n_embd=d_e, n_inner=d_mlp,
        activation_function="gelu", layer_norm_epsilon=0.0, tie_word_embeddings=False,
        resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=N_V - 2, eos_token_id=N_V - 1,
        attn_implementation="eager",
    )  # fmt: skip
    return redraw(GPT2LMHeadModel(config), seed)


def run_gpt2(model: GPT2LMHeadModel, x) -> Tensor:
    return model(torch.tensor([list(x)])).logits[0]


def read_gpt2(model: GPT2LMHeadModel, read: Read = value) -> formal.DTransformerWeights:
    """GPT-2's Conv1D weights are [in, out]: they alone need transposing."""
    gpt2 = model.transformer
    layers = []
    for block in gpt2.h:
        W_q, W_k, W_v = np.split(read(block.attn.c_attn.weight).T, 3)
        b_q, b_k, b_v = np.split(read(block.attn.c_attn.bias), 3)
        W_o, b_o = read(block.attn.c_proj.weight).T, read(block.attn.c_proj.bias)
        layers.append(
            formal.LayerWeights(
                W=split_heads(W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o, model.config.n_head),
                gamma_1=read(block.ln_1.weight),
                beta_1=read(block.ln_1.bias),
                W_mlp1=read(block.mlp.c_fc.weight).T,
                b_mlp1=read(block.mlp.c_fc.bias),
                W_mlp2=read(block.mlp.c_proj.weight).T,
                b_mlp2=read(block.mlp.c_proj.bias),
                gamma_2=read(block.ln_2.weight),
                beta_2=read(block.ln_2.bias),
            )
        )
    return formal.DTransformerWeights(
        W_e=read(gpt2.wte.weight).T,
        W_p=read(gpt2.wpe.weight).T,
        layers=tuple(layers),
        gamma=read(gpt2.ln_f.weight),
        beta=read(gpt2.ln_f.bias),
        W_u=read(model.lm_head.weight),
    )


# BERT -------------------------------------------------------------------------------------------------------


def make_bert(seed=0, *, N_V=11, l_max=7, L=2, H=2, d_e=8, d_mlp=12, d_f=6) -> BertForMaskedLM:
    """BERT as algorithm 9 has it: d_f may differ from d_e, and what the paper leaves out (segments, the norm
    after the embeddings, the output bias) does nothing, for good."""
    config = BertConfig(
        vocab_size=N_V, max_position_embeddings=l_max, num_hidden_layers=L, num_attention_heads=H,
        hidden_size=d_e, intermediate_size=d_mlp, hidden_act="gelu", layer_norm_eps=0.0,
        tie_word_embeddings=False, pad_token_id=None,  # a padding token would have no gradient
        hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, attn_implementation="eager",
    )  # fmt: skip
    model = BertForMaskedLM(config)
    head = model.cls.predictions
    head.transform.dense = nn.Linear(d_e, d_f)
    head.transform.LayerNorm = nn.LayerNorm(d_f, eps=0.0)
    head.decoder = nn.Linear(d_f, N_V, bias=False)
    model.bert.embeddings.LayerNorm = nn.Identity()
    redraw(model, seed)
    segments = model.bert.embeddings.token_type_embeddings.weight
    nn.init.zeros_(segments).requires_grad_(False)
    return model


def run_bert(model: BertForMaskedLM, x) -> Tensor:
    return model(torch.tensor([list(x)])).logits[0]


def read_bert(model: BertForMaskedLM, read: Read = value) -> formal.ETransformerWeights:
    layers = []
    for block in model.bert.encoder.layer:
        own, out = block.attention.self, block.attention.output
        fused = [read(p) for linear in (own.query, own.key, own.value) for p in (linear.weight, linear.bias)]
        W = split_heads(
            *fused, read(out.dense.weight), read(out.dense.bias), model.config.num_attention_heads
        )
        layers.append(
            formal.LayerWeights(
                W=W,
                gamma_1=read(out.LayerNorm.weight),
                beta_1=read(out.LayerNorm.bias),
                W_mlp1=read(block.intermediate.dense.weight),
                b_mlp1=read(block.intermediate.dense.bias),
                W_mlp2=read(block.output.dense.weight),
                b_mlp2=read(block.output.dense.bias),
                gamma_2=read(block.output.LayerNorm.weight),
                beta_2=read(block.output.LayerNorm.bias),
            )
        )
    transform = model.cls.predictions.transform
    return formal.ETransformerWeights(
        W_e=read(model.bert.embeddings.word_embeddings.weight).T,
        W_p=read(model.bert.embeddings.position_embeddings.weight).T,
        layers=tuple(layers),
        W_f=read(transform.dense.weight),
        b_f=read(transform.dense.bias),
        gamma=read(transform.LayerNorm.weight),
        beta=read(transform.LayerNorm.bias),
        W_u=read(model.cls.predictions.decoder.weight),
    )


# The encoder-decoder of torch.nn ----------------------------------------------------------------------------


class TorchPair(nn.Module):
    """torch.nn's encoder and decoder layers, post-norm unless asked, with algorithm 8's embeddings."""

    def __init__(self, N_V=11, l_max=7, L_enc=2, L_dec=3, H=2, d_e=8, d_mlp=12, norm_first=False):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(N_V, d_e), nn.Embedding(l_max, d_e)
        options = {"dropout": 0.0, "layer_norm_eps": 0.0, "batch_first": True, "norm_first": norm_first}
        reader = nn.TransformerEncoderLayer(d_e, H, d_mlp, activation="relu", **options)
        writer = nn.TransformerDecoderLayer(d_e, H, d_mlp, activation="relu", **options)
        self.encoder = nn.TransformerEncoder(reader, L_enc, enable_nested_tensor=False)
        self.decoder = nn.TransformerDecoder(writer, L_dec)
        self.unembed = nn.Linear(d_e, N_V, bias=False)

    def embed(self, x) -> Tensor:
        x = torch.tensor([list(x)])
        return self.tokens(x) + self.positions(torch.arange(x.shape[1]))

    def forward(self, z, x) -> Tensor:
        causal = nn.Transformer.generate_square_subsequent_mask(len(x), dtype=torch.float64)
        memory = self.encoder(self.embed(z))
        return self.unembed(self.decoder(self.embed(x), memory, tgt_mask=causal))[0]


def make_pair(seed=0, **sizes) -> TorchPair:
    return redraw(TorchPair(**sizes), seed)


def read_pair(model: TorchPair, read: Read = value) -> formal.EDTransformerWeights:
    def heads(attention: nn.MultiheadAttention) -> formal.MultiHeadWeights:
        W_q, W_k, W_v = np.split(read(attention.in_proj_weight), 3)
        b_q, b_k, b_v = np.split(read(attention.in_proj_bias), 3)
        W_o, b_o = read(attention.out_proj.weight), read(attention.out_proj.bias)
        return split_heads(W_q, b_q, W_k, b_k, W_v, b_v, W_o, b_o, attention.num_heads)

    encoder = tuple(
        formal.LayerWeights(
            W=heads(layer.self_attn),
            gamma_1=read(layer.norm1.weight),
            beta_1=read(layer.norm1.bias),
            W_mlp1=read(layer.linear1.weight),
            b_mlp1=read(layer.linear1.bias),
            W_mlp2=read(layer.linear2.weight),
            b_mlp2=read(layer.linear2.bias),
            gamma_2=read(layer.norm2.weight),
            beta_2=read(layer.norm2.bias),
        )
        for layer in model.encoder.layers
    )
    decoder = tuple(
        formal.CrossLayerWeights(
            W_dec=heads(layer.self_attn),
            gamma_3=read(layer.norm1.weight),
            beta_3=read(layer.norm1.bias),
            W_ed=heads(layer.multihead_attn),
            gamma_4=read(layer.norm2.weight),
            beta_4=read(layer.norm2.bias),
            W_mlp3=read(layer.linear1.weight),
            b_mlp3=read(layer.linear1.bias),
            W_mlp4=read(layer.linear2.weight),
            b_mlp4=read(layer.linear2.bias),
            gamma_5=read(layer.norm3.weight),
            beta_5=read(layer.norm3.bias),
        )
        for layer in model.decoder.layers
    )
    W_e, W_p = read(model.tokens.weight).T, read(model.positions.weight).T
    return formal.EDTransformerWeights(W_e, W_p, encoder, decoder, W_u=read(model.unembed.weight))
