"""A config.json's values: what Python or a dictionary would choke on is refused by name."""

import json

import pytest

from cutaway.errors import FileFormatError
from cutaway.weights.config import read_config
from cutaway.weights.families.family import architecture


@pytest.mark.parametrize("number", ["1" + "0" * 400, "-1" + "0" * 400, "1e999", "-0.5", "true", '"1"'])
def test_a_number_is_finite_however_it_is_written(tmp_path, number):
    (tmp_path / "config.json").write_text('{"eps": ' + number + "}")
    with pytest.raises(FileFormatError, match=r"config\.json: eps: .* must be a number of at least 0"):
        read_config(tmp_path / "config.json").number("eps")


def test_numbers_are_read(tmp_path):
    (tmp_path / "config.json").write_text('{"a": 0, "b": 1e-5, "c": 10000000}')
    table = read_config(tmp_path / "config.json")
    assert [table.number(key) for key in "abc"] == [0.0, 1e-5, 1e7]


@pytest.mark.parametrize("said", ["BertModel", {"a": 1}, [["BertModel"]], ["BertForNothing"], [3]])
def test_architectures_are_a_list_of_known_names(tmp_path, said):
    (tmp_path / "config.json").write_text(json.dumps({"architectures": said}))
    with pytest.raises(FileFormatError, match=r"config\.json: architectures: "):
        architecture(read_config(tmp_path / "config.json"), {"BertModel": 1}, "BertModel")
    for right in (["BertModel"], [], None):
        (tmp_path / "config.json").write_text(json.dumps({"architectures": right}))
        assert architecture(read_config(tmp_path / "config.json"), {"BertModel": 1}, "BertModel") == 1
