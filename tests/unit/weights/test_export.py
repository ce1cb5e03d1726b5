"""What goes into an exported folder: every file that a tokenizer or a chat template is read from."""

import re

from cutaway.weights.export import CONFIG, GENERATION, TOKENIZER_FILES
from tests.house.tree import PACKAGE

FILE = re.compile(r'"([\w.]+\.(?:json|jinja|txt|model|spm))"')


def test_no_file_of_a_tokenizer_stays_behind():
    sources = [*(PACKAGE / "data/vocabularies").glob("*.py"), PACKAGE / "data/chat.py"]
    read = {name for source in sources for name in FILE.findall(source.read_text(encoding="utf-8"))}
    assert {"target.spm", "sentencepiece.bpe.model", "chat_template.jinja"} <= read
    assert read - {CONFIG, GENERATION} <= set(TOKENIZER_FILES)
