"""What `benchmarks.agreement` takes for rounding, and what for a difference."""

import gguf
import numpy as np

from benchmarks.agreement import Compared, freely, prompts, prose, write_in_full
from benchmarks.llama_flags import OPTIONS, options
from cutaway.weights.gguf import read_gguf, read_tensor

L, V = 6, 9


def logits(seed: int) -> np.ndarray:
    """Rows (L, V) in which token 3 leads by 1 over token 5, and both by far over the rest."""
    drawn = np.random.default_rng(seed).normal(0, 0.01, (L, V))
    drawn[:, 3], drawn[:, 5] = 9.0, 8.0
    return drawn


def test_the_same_logits_have_no_difference():
    found = Compared()
    found.add(logits(0), logits(0), logits(0))
    found.add(logits(1), logits(1), logits(1))
    assert (found.places, found.differences, found.problems) == (2 * L, [], [])


def test_a_gap_within_what_rounding_does_elsewhere_is_none():
    ours, theirs = logits(0), logits(0)
    ours[2, 3], theirs[2, 5] = 8.25, 9.5  # near here, and the other way round there
    theirs[4, 5] = 8.5  # what rounding does where both choose alike
    found = Compared()
    found.add(ours, theirs, ours)
    (one,) = found.differences
    assert (one.place, one.ours, one.theirs) == (2, 3, 5)
    assert (one.our_gap, one.their_gap, one.full_gap) == (0.25, 0.5, 0.25)
    assert found.rounding == 0.5 and found.problems == []


def test_a_gap_beyond_rounding_is_told():
    ours, theirs = logits(0), logits(0)
    theirs[2, 5] = 9.3
    found = Compared()
    found.add(ours, theirs, ours)
    assert ["more than rounding" in problem for problem in found.problems] == [True]


def test_other_logits_on_the_same_weights_are_told():
    found = Compared()
    found.add(logits(0), logits(0), logits(0) + 0.1)
    assert ["llama.cpp's in fp32" in problem for problem in found.problems] == [True]


def test_free_decoding_has_to_write_our_choices_up_to_the_first_other_one():
    ours = np.eye(V)[[1, 2, 3, 4]]
    assert freely(0, [1, 2, 3, 4], [1, 2, 3, 4], ours) == []
    assert freely(0, [1, 2, 3, 7], [1, 2, 5, 4], ours) == []  # after our 3 and their 5 all may differ
    assert freely(0, [1, 2, 5, 4], [1, 2, 5, 4], ours) == ["prompt 0: decoding writes otherwise"]
    assert freely(0, [1, 2, 3, 7], [1, 2, 3, 4], ours) == ["prompt 0: decoding writes otherwise"]


def test_the_prose_is_enough_and_nothing_twice():
    assert len(set(prose())) == len(prose()) > 1_000
    assert len(set(prompts(20))) == 20


def plain(metadata: dict) -> dict:
    return {key: np.asarray(value).tolist() for key, value in metadata.items()}


def test_a_file_written_in_full_is_the_same_model(tmp_path):
    kinds, values = (
        gguf.GGMLQuantizationType,
        np.random.default_rng(0).normal(size=(3, 64)).astype(np.float32),
    )
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "llama")
    writer.add_token_list(["a", "é", "<s>"])
    writer.add_token_scores([0.0, -1.5, 2.0])
    writer.add_float32("llama.rope.freq_base", 1e5)
    writer.add_add_bos_token(False)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_1)
    writer.add_tensor("a.weight", gguf.quantize(values, kinds.Q4_1), raw_dtype=kinds.Q4_1)
    writer.add_tensor("b.weight", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_in_full(tmp_path / "x.gguf", tmp_path / "full.gguf")
    quantised, full = read_gguf(tmp_path / "x.gguf"), read_gguf(tmp_path / "full.gguf")
    told, expected = plain(full.metadata), plain(quantised.metadata)
    assert told == expected | {"general.file_type": 0} and expected["general.file_type"] == 3
    assert list(full.tensors) == ["a.weight", "b.weight"]
    for name in full.tensors:
        assert np.array_equal(read_tensor(full, name).numpy(), read_tensor(quantised, name).numpy())
    assert not np.array_equal(read_tensor(full, "a.weight").numpy(), values)


def test_llama_cpp_is_built_for_the_sets_that_are_there():
    some = options("processor : 0\nflags\t\t: fpu avx avx2 fma f16c bmi2 avx512f\n")
    assert {"-DGGML_NATIVE=OFF", "-DGGML_AVX2=ON", "-DGGML_AVX512=OFF", "-DGGML_AVX512_VNNI=OFF"} <= set(some)
    more = " ".join(sorted(set().union(*OPTIONS.values())))
    assert not [one for one in options(f"flags : {more}") if one.endswith("=OFF") and "AVX" in one]
