"""Phuong & Hutter, "Formal Algorithms for Transformers" (arXiv 2207.09238): all 15 algorithms, literally.

NumPy float64, one sequence at a time, written to be read beside the paper and to hold faster code against.
Its names are the paper's (W_q, d_attn, l_max, Mask ...), and so is its orientation: a token is a COLUMN,
weights stand on the left (W X + b 1^T, where b 1^T is written b[:, None]), softmax runs down each column.

 1 token_embedding                5 MHAttention      9 ETransformer    13 DTraining
 2 positional_embedding           6 layer_norm      10 DTransformer    14 DInference
 3 basic_single_query_attention   7 unembedding     11 EDTraining      15 EDInference
 4 Attention                      8 EDTransformer   12 ETraining

Indices: the paper counts from 1, this code from 0, everywhere. So the vocabulary is 0 .. N_V - 1, positions
are 0 .. l_max - 1, and the special tokens, in the paper N_V - 2, N_V - 1 and N_V, are here
mask_token = N_V - 3, bos_token = N_V - 2, eos_token = N_V - 1.

Where the paper leaves a choice, this is ours: a column of Attention whose mask hides every context token is
exactly 0 (in the paper it is 0/0); tau = 0 is the limit of tau -> 0, the likeliest token.
"""

from collections.abc import Callable

from cutaway.formal.architectures import DTransformer, EDTransformer, ETransformer
from cutaway.formal.attention import (
    Attention,
    MHAttention,
    basic_single_query_attention,
    bidirectional,
    unidirectional,
)
from cutaway.formal.embedding import (
    bos_token,
    embed,
    eos_token,
    hard_coded_positional_embedding,
    mask_token,
    positional_embedding,
    token_embedding,
    unembedding,
)
from cutaway.formal.inference import DInference, EDInference, sample
from cutaway.formal.nonlinearity import GELU, ReLU, softmax
from cutaway.formal.norm import RMSnorm, layer_norm, layer_norm_columns
from cutaway.formal.training import (
    DLoss,
    DTraining,
    EDLoss,
    EDTraining,
    ELoss,
    ETraining,
    central_differences,
)
from cutaway.formal.weights import (
    AttentionWeights,
    CrossLayerWeights,
    DTransformerWeights,
    EDTransformerWeights,
    ETransformerWeights,
    LayerWeights,
    MultiHeadWeights,
    map_arrays,
)

algorithms: dict[int, Callable] = {
    1: token_embedding,
    2: positional_embedding,
    3: basic_single_query_attention,
    4: Attention,
    5: MHAttention,
    6: layer_norm,
    7: unembedding,
    8: EDTransformer,
    9: ETransformer,
    10: DTransformer,
    11: EDTraining,
    12: ETraining,
    13: DTraining,
    14: DInference,
    15: EDInference,
}

__all__ = [
    "GELU",
    "Attention",
    "AttentionWeights",
    "CrossLayerWeights",
    "DInference",
    "DLoss",
    "DTraining",
    "DTransformer",
    "DTransformerWeights",
    "EDInference",
    "EDLoss",
    "EDTraining",
    "EDTransformer",
    "EDTransformerWeights",
    "ELoss",
    "ETraining",
    "ETransformer",
    "ETransformerWeights",
    "LayerWeights",
    "MHAttention",
    "MultiHeadWeights",
    "RMSnorm",
    "ReLU",
    "algorithms",
    "basic_single_query_attention",
    "bidirectional",
    "bos_token",
    "central_differences",
    "embed",
    "eos_token",
    "hard_coded_positional_embedding",
    "layer_norm",
    "layer_norm_columns",
    "map_arrays",
    "mask_token",
    "positional_embedding",
    "sample",
    "softmax",
    "token_embedding",
    "unembedding",
    "unidirectional",
]
