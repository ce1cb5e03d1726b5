"""GGUF files from strangers: every rule has a file that breaks it, and the good file is read as the library
reads it.
"""

from pathlib import Path

import gguf as library
import numpy as np
import pytest

from cutaway.errors import FileFormatError, InputMissingError
from cutaway.weights.gguf import hugging_face, read_gguf, read_tensor
from tests.hostile.gguf_files import BAD, MODEL, but, small, written


def kept(tmp_path: Path, data: bytes) -> Path:
    path = tmp_path / "x.gguf"
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("version", [2, 3])
def test_the_good_file_is_read_as_the_library_reads_it(tmp_path, version):
    path = kept(tmp_path, but(version=version))
    ours, theirs = read_gguf(path), library.GGUFReader(path)
    assert ours.version == version and list(ours.tensors) == [tensor.name for tensor in theirs.tensors]
    for tensor in theirs.tensors:
        info = ours.tensors[tensor.name]
        assert info.shape == tuple(reversed(tensor.shape.tolist())) and info.begin == tensor.data_offset
        assert (info.kind.name, info.end - info.begin) == (tensor.tensor_type.name, tensor.n_bytes)
        values = library.dequantize(tensor.data, tensor.tensor_type)
        assert np.array_equal(read_tensor(ours, tensor.name).numpy(), values)
    told = {key: field.contents() for key, field in theirs.fields.items() if not key.startswith("GGUF.")}
    assert told.keys() == ours.metadata.keys()
    for key, value in ours.metadata.items():
        plain = list(value) if isinstance(value, tuple) else getattr(value, "tolist", lambda v=value: v)()
        assert plain == told[key] and (type(plain) is type(told[key])), key
    config, tensors = hugging_face(ours)
    assert config["vocab_size"] == 3 and len(tensors()) == len(ours.tensors)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_is_refused_by_its_rule(tmp_path, name):
    data, rule = BAD[name]
    path = kept(tmp_path, data)
    with pytest.raises(FileFormatError, match=rule) as refused:
        read_gguf(path)
    assert refused.value.path == path and len(str(refused.value)) < 500 + len(str(path))


@pytest.mark.parametrize("name", MODEL)
def test_a_whole_file_that_is_no_model_of_ours_is_refused_by_its_rule(tmp_path, name):
    data, rule = MODEL[name]
    found = read_gguf(kept(tmp_path, data))
    with pytest.raises(FileFormatError, match=rule):
        hugging_face(found)


def test_a_file_cut_at_any_byte_is_refused(tmp_path):
    whole = written(small())
    path = tmp_path / "x.gguf"
    data = len(small().data)
    for length in (*range(len(whole) - data + 64), *range(len(whole) - data, len(whole) - 31, 97)):
        path.write_bytes(whole[:length])
        with pytest.raises(FileFormatError):
            read_gguf(path)
    path.write_bytes(whole)
    assert read_gguf(path).size == len(whole)


def test_no_file_and_a_folder_are_missing(tmp_path):
    for path in (tmp_path / "none.gguf", tmp_path):
        with pytest.raises(InputMissingError, match="cannot be read"):
            read_gguf(path)
