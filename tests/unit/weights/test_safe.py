"""safetensors written and read back, whole and in shards; what the index of shards may not say."""

import json
import os

import pytest
import safetensors.torch
import torch

from cutaway.errors import ConfigError, FileFormatError, InputMissingError
from cutaway.weights.safe import NAMES, read_header, read_tensors, write_tensors
from cutaway.weights.shards import read_shard_headers, read_shards


def sample() -> dict[str, torch.Tensor]:
    """A tensor of every dtype, some of them not contiguous, empty, or of no axis."""
    draw = torch.Generator().manual_seed(0)
    made = {str(dtype): (torch.rand(3, 5, generator=draw) * 2).to(dtype) for dtype in NAMES}
    turned = torch.arange(12.0).view(3, 4).T
    return made | {"turned": turned, "none": torch.zeros(0, 7), "one": torch.tensor(2.5), "ü": torch.ones(1)}


def equal(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    same = (a[n].shape == b[n].shape and a[n].dtype == b[n].dtype for n in a.keys() & b.keys())
    raw = (torch.equal(flat(a[n]), flat(b[n])) for n in a.keys() & b.keys())
    return a.keys() == b.keys() and all(same) and all(raw)


def flat(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def test_what_is_written_is_read_by_us_and_by_the_library(tmp_path):
    path, tensors = tmp_path / "x.safetensors", sample()
    write_tensors(path, tensors, {"format": "pt", "note": 'ü "quoted"'})
    assert equal(read_tensors(path), tensors) and equal(safetensors.torch.load_file(path), tensors)
    assert read_header(path).metadata == {"format": "pt", "note": 'ü "quoted"'}
    assert not equal(read_tensors(path), tensors | {"one": torch.tensor(2.4999998)})
    assert not equal(read_tensors(path), {name: tensor for name, tensor in tensors.items() if name != "one"})


def test_every_tensor_is_aligned(tmp_path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, sample())
    for info in read_header(path).tensors.values():
        assert info.begin % NAMES_BYTES[info.dtype] == 0


NAMES_BYTES = {name: dtype.itemsize for dtype, name in NAMES.items()}


def test_equal_tensors_give_equal_bytes_in_any_order(tmp_path):
    tensors = sample()
    write_tensors(tmp_path / "a", tensors, {"a": "1", "b": "2"})
    write_tensors(tmp_path / "b", dict(reversed(tensors.items())), {"b": "2", "a": "1"})
    write_tensors(tmp_path / "c", tensors, {"a": "1", "b": "3"})
    a, b, c = ((tmp_path / name).read_bytes() for name in "abc")
    assert a == b != c
    write_tensors(tmp_path / "d", read_tensors(tmp_path / "a"), read_header(tmp_path / "a").metadata)
    assert (tmp_path / "d").read_bytes() == a


def test_a_file_can_be_written_over_itself_while_mapped(tmp_path):
    path, tensors = tmp_path / "x.safetensors", {"x": torch.arange(9.0)}
    write_tensors(path, tensors)
    found = read_tensors(path)
    write_tensors(path, {"x": found["x"] * 2})
    assert torch.equal(found["x"], tensors["x"]) and torch.equal(read_tensors(path)["x"], tensors["x"] * 2)
    assert os.listdir(tmp_path) == ["x.safetensors"]


def test_a_dtype_that_the_format_lacks_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ConfigError, match=r"x: torch\.complex64 cannot be written"):
        write_tensors(tmp_path / "x", {"x": torch.zeros(2, dtype=torch.complex64)})
    assert not (tmp_path / "x").exists()


INDEX = "model.safetensors.index.json"


def sharded(folder):
    """Two files and their index; what was written in it."""
    parts = {
        "one.safetensors": {"a": torch.ones(2), "b": torch.zeros(3)},
        "two.safetensors": {"c": torch.ones(1)},
    }
    for name, tensors in parts.items():
        write_tensors(folder / name, tensors)
    table = {name: file for file, tensors in parts.items() for name in tensors}
    (folder / INDEX).write_text(json.dumps({"metadata": {"total_size": 24}, "weight_map": table}))
    return {name: tensor for tensors in parts.values() for name, tensor in tensors.items()}, table


def test_shards_are_read_as_one(tmp_path):
    tensors, _ = sharded(tmp_path)
    assert equal(read_shards(tmp_path / INDEX), tensors)
    assert [path.name for path in read_shard_headers(tmp_path / INDEX)] == [
        "one.safetensors",
        "two.safetensors",
    ]
    (tmp_path / "two.safetensors").unlink()
    with pytest.raises(InputMissingError, match="two\\.safetensors"):
        read_shards(tmp_path / INDEX)


BAD_NAMES = (
    "../one.safetensors",
    "/etc/one.safetensors",
    "sub/one.safetensors",
    "..",
    "",
    "one.bin",
    3,
    None,
)
BAD_NAMES += ("sub\\one.safetensors", "a\0.safetensors", "~one.safetensors", "C:one.safetensors", "x" * 300)


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_a_shard_is_a_plain_file_of_the_folder(tmp_path, name):
    _, table = sharded(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": table | {"c": name}}))
    with pytest.raises(FileFormatError, match="of this folder"):
        read_shards(tmp_path / INDEX)


INDICES = {
    "no map": ("{}", "no weight_map"),
    "a list": ("[]", "an object belongs"),
    "a map that is a list": ('{"weight_map": []}', "no weight_map"),
    "an empty map": ('{"weight_map": {}}', "empty"),
    "another key": ('{"weight_map": {"a": "one.safetensors"}, "auto_map": {}}', "unknown key 'auto_map'"),
    "a name twice": ('{"weight_map": {"a": "one.safetensors", "a": "two.safetensors"}}', "'a' stands twice"),
    "nested deeply": ('{"metadata": ' + "[" * 5_000 + "]" * 5_000 + "}", "more than 8 deep"),
    "no JSON": ("x", "not valid JSON"),
}


@pytest.mark.parametrize("name", INDICES)
def test_a_bad_index_is_refused(tmp_path, name):
    sharded(tmp_path)
    text, rule = INDICES[name]
    (tmp_path / INDEX).write_text(text)
    with pytest.raises(FileFormatError, match=rule):
        read_shards(tmp_path / INDEX)


def test_index_and_shards_must_agree(tmp_path):
    _, table = sharded(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": table | {"d": "two.safetensors"}}))
    with pytest.raises(FileFormatError, match="'d' missing, but"):
        read_shards(tmp_path / INDEX)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"a": "one.safetensors"}}))
    with pytest.raises(FileFormatError, match="'b' is not listed"):
        read_shards(tmp_path / INDEX)


def test_a_link_out_of_the_folder_is_refused_but_the_hub_s_own(tmp_path):
    outside, folder = tmp_path / "outside", tmp_path / "models--x" / "snapshots" / "1"
    blobs = tmp_path / "models--x" / "blobs"
    for made in (outside, folder, blobs):
        made.mkdir(parents=True)
    tensors, _ = sharded(folder)
    (folder / "two.safetensors").rename(blobs / "abc")
    (folder / "two.safetensors").symlink_to("../../blobs/abc")
    assert equal(read_shards(folder / INDEX), tensors)
    (blobs / "abc").rename(outside / "abc")
    (folder / "two.safetensors").unlink()
    (folder / "two.safetensors").symlink_to(outside / "abc")
    with pytest.raises(FileFormatError, match="a link out of its folder"):
        read_shards(folder / INDEX)


@pytest.mark.parametrize("length", [0x0280, 0x0480, 0x0580])
def test_a_header_whose_length_begins_as_a_pickle_does_is_read(tmp_path, length):
    path = tmp_path / "x.safetensors"
    write_tensors(path, {"x": torch.ones(2)}, {"pad": ""})
    short = int.from_bytes(path.read_bytes()[:8], "little")
    write_tensors(path, {"x": torch.ones(2)}, {"pad": "." * (length - short)})
    assert path.read_bytes()[:2] == length.to_bytes(2, "little") and path.read_bytes()[0] == 0x80
    assert torch.equal(read_tensors(path)["x"], torch.ones(2))
