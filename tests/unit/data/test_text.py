"""What is read from a source, what is refused and how, and how documents are split."""

import gzip
from pathlib import Path

import pytest

from cutaway.data.text import Document, decode_text, read_documents, split_by_file, split_tail
from cutaway.errors import ConfigError, FileFormatError, InputMissingError, LimitError


def test_one_file_keeps_its_newlines_and_drops_only_the_byte_order_mark(tmp_path):
    file = tmp_path / "poem.txt"
    file.write_bytes(b"\xef\xbb\xbfone\r\ntwo\rthree\n\xef\xbb\xbf")
    assert read_documents(str(file)) == [Document("poem.txt", "one\r\ntwo\rthree\n\ufeff")]


def test_a_folder_is_read_in_order_without_hidden_binary_and_blank_files(tmp_path):
    for name, data in {
        "b.txt": b"b",
        "a/z.txt": b"z",
        "a/.hidden": b"no",
        ".git/config": b"no",
        "image.png": b"\x89PNG\0\0",
        "blank.txt": b" \n\t",
        "empty.txt": b"",
        "c.txt.gz": gzip.compress(b"zipped"),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(data)
    found = [(document.name, document.text) for document in read_documents(tmp_path)]
    assert found == [("a/z.txt", "z"), ("b.txt", "b"), ("c.txt.gz", "zipped")]


def test_names_do_not_depend_on_where_the_source_lies(tmp_path):
    for place in ("here", "there/deeper"):
        for name in ("x/one.txt", "y/two.txt"):
            path = tmp_path / place / name
            path.parent.mkdir(parents=True)
            path.write_text(name)
    here = read_documents([tmp_path / "here/x/one.txt", tmp_path / "here/y"])
    assert here == read_documents(tmp_path / "there/deeper")
    assert [document.name for document in here] == ["x/one.txt", "y/two.txt"]


def test_a_file_named_twice_is_read_once(tmp_path):
    (tmp_path / "a.txt").write_text("a")
    assert len(read_documents([tmp_path, tmp_path / "a.txt"])) == 1


def test_stdlib_is_the_source_of_this_python_without_its_tests():
    names = [document.name for document in read_documents("stdlib:")]
    assert "argparse.py" in names and "json/decoder.py" in names and names == sorted(names)
    left_out = {"test", "tests", "site-packages", "idlelib"}
    assert not any(left_out & set(Path(name).parts) for name in names)


BAD = {
    "latin-1": (b"ok\ncaf\xe9\n", FileFormatError, "bad.txt, byte 6: line 2: 0xe9"),
    "cut short": (b"\xe2\x82", FileFormatError, "byte 0: line 1"),
    "surrogate": (b"a\xed\xa0\x80", FileFormatError, "byte 1: line 1"),
    "overlong": (b"a\n\n\xc0\x80", FileFormatError, "byte 3: line 3"),
    "nul": (b"one\ntwo\0", FileFormatError, "byte 7: line 2: a NUL"),
    "utf-16": ("text".encode("utf-16"), FileFormatError, "byte-order mark"),
    "utf-32": ("text".encode("utf-32"), FileFormatError, "byte-order mark"),
    "empty": (b"", InputMissingError, "holds no text"),
    "white space": (b" \n\t\r\n", InputMissingError, "holds no text"),
    "mark only": (b"\xef\xbb\xbf", InputMissingError, "holds no text"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_text_is_refused_with_its_place(tmp_path, name):
    data, error, message = BAD[name]
    file = tmp_path / "bad.txt"
    file.write_bytes(data)
    with pytest.raises(error) as caught:
        read_documents(file)
    assert message in str(caught.value) and "bad.txt" in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", [name for name in BAD if BAD[name][1] is FileFormatError and name != "nul"])
def test_bad_text_inside_a_folder_is_refused_too(tmp_path, name):
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "bad.txt").write_bytes(BAD[name][0])
    with pytest.raises(FileFormatError, match=r"bad\.txt"):
        read_documents(tmp_path)


ENCODINGS = [
    "cp1252",
    "iso8859-2",
    "iso8859-5",
    "iso8859-7",
    "iso8859-15",
    "koi8-r",
    "koi8-u",
    "cp437",
    "cp850",
    "cp1250",
    "cp1251",
    "mac-roman",
    "shift-jis",
    "euc-jp",
    "euc-kr",
    "big5",
    "gb18030",
    "cp949",
    "utf-16-le",
    "utf-16-be",
]
SAMPLES = ("naïve café – žluťoučký kůň", "Привет, мир", "Ελληνικά", "日本語の文章", "한국어 문장", "中文句子")


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_text_in_other_encodings_is_refused_not_misread(encoding):
    sample = max(
        (text.encode(encoding, "ignore") for text in SAMPLES),
        key=lambda data: sum(byte > 127 for byte in data),
    )
    if encoding.startswith("utf-16"):
        sample = SAMPLES[0].encode(encoding)
    with pytest.raises(FileFormatError):
        decode_text(sample, "sample")
    assert decode_text(SAMPLES[0].encode(), "sample") == SAMPLES[0]


def test_what_is_not_there_or_cannot_be_unpacked(tmp_path):
    with pytest.raises(InputMissingError, match=r"nowhere\.txt: no such file"):
        read_documents(tmp_path / "nowhere.txt")
    with pytest.raises(InputMissingError, match="holds no text"):
        read_documents(tmp_path)
    with pytest.raises(InputMissingError, match="no text given"):
        read_documents([])
    packed = gzip.compress(b"some text " * 100)
    for name, data in {
        "cut.gz": packed[:-9],
        "not.gz": b"plain",
        "flip.gz": packed[:20] + b"\xff" + packed[21:],
    }.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(FileFormatError, match=f"{name}: damaged gzip"):
            read_documents(tmp_path / name)


def test_a_gzip_bomb_is_refused(tmp_path):
    (tmp_path / "bomb.gz").write_bytes(gzip.compress(b"\n" * 10_000_000))
    with pytest.raises(FileFormatError, match="unpacks to more than"):
        read_documents(tmp_path / "bomb.gz")


def documents_of(count: int) -> list[Document]:
    return [Document(f"file{number}.txt", f"text {number}") for number in range(count)]


def test_split_by_file_partitions_and_is_stable_when_files_are_added():
    many, more = split_by_file(documents_of(500)), split_by_file(documents_of(700))
    assert sorted(many.train + many.validation, key=lambda d: int(d.text[5:])) == documents_of(500)
    assert not {d.name for d in many.train} & {d.name for d in many.validation}
    assert 25 <= len(many.validation) <= 80
    assert {d.name for d in many.validation} <= {d.name for d in more.validation}


@pytest.mark.parametrize("count", range(2, 30))
@pytest.mark.parametrize("fraction", [1e-9, 0.1, 0.999999])
def test_split_by_file_never_leaves_a_side_empty(count, fraction):
    split = split_by_file(documents_of(count), fraction)
    assert split.train and split.validation and len(split.train) + len(split.validation) == count


def test_split_tail_is_nanogpts_and_cuts_across_documents():
    text = "".join(chr(97 + number % 26) for number in range(1_003))
    split = split_tail([Document("t", text)])
    assert split.train == [Document("t", text[: int(0.9 * len(text))])]
    assert split.validation == [Document("t", text[int(0.9 * len(text)) :])]
    pair = split_tail([Document("a", "12345"), Document("b", "67890")], 0.3)
    assert pair.train == [Document("a", "12345"), Document("b", "67")]
    assert pair.validation == [Document("b", "890")]


def test_splits_that_cannot_be_made():
    with pytest.raises(ConfigError, match="at least 2 documents, here 1"):
        split_by_file(documents_of(1))
    with pytest.raises(LimitError, match="1 characters cannot be split"):
        split_tail([Document("a", "x")])
    for fraction in (0, 1, -0.1, float("nan")):
        with pytest.raises(ConfigError, match="must lie between 0 and 1"):
            split_tail(documents_of(3), fraction)
