"""Texts that tokenizers differ on: languages, emoji, combining marks, control characters, long runs."""

import random

TEXTS = [
    "",
    " ",
    "   ",
    "a",
    " a",
    "  a",
    "a ",
    "a  b   c    d  ",
    "The cat sat on the mat; the dog's hat didn't.",
    "It's 12 o'clock, and they've 3.14159 or 1,234,567 apples: I'm done!?",
    "def f(x):\n    return x + 1\n\n\n# comment\t\ttabs\n",
    "windows\r\nlines\r\n\r\nand\rold ones\n",
    "naïve café déjà-vu – “quotes” … ½ ﬁ ﬂ ① Å Å",
    "e\u0301 a\u0308\u0323 n\u0303o\u0302 Z\u0351\u036b\u0343\u0313",
    "Привет, мир! Как дела?",
    "Ελληνικά: όμορφη μέρα",
    "日本語のテキスト、東京タワー。ﾊﾝｶｸ ＡＢＣ１２３",
    "中文文本，没有空格。",
    "안녕하세요 세계 각",
    "مرحبا بالعالم، כבר שלום",
    "हिन्दी में पाठ ไทยไม่มีช่องว่าง",
    "emoji 👩‍👩‍👧 😀 🇩🇪 👍🏽 ☺️ ❤",
    "\0nul\0s\0",
    "control \x01\x02\x1b[0m\x7f\x85 chars",
    "zero\u200bwidth\u200d\ufeff and \u00a0nbsp\u3000wide\u2028line",
    "private \ue000 \U000f0001 \U00100000 \U0010fffd \uffff",
    "\u2581already \u2581\u2581 marked\u2581",
    "<s> </s> <pad> <unk> <0x41> <0x0A> [CLS] [SEP] [MASK] [UNK] <|endoftext|> <|im_end|>",
    "##ing ##s un##able @@ a@@ b",
    "https://example.org/a?b=c&d=%20#e _snake_case_ CamelCase $x^2$ {[(<>)]} \\n \\u0041",
    "ŚŻ ÄÖÜ ß ẞ İ ı ſ ĳ ǅ Σς",
    "𝕳𝖊𝖑𝖑𝖔 𝒲𝑜𝓇𝓁𝒹 𐍈 𠜎",
]
RUNS = [letter * 10_000 for letter in (" ", "a", "\n", "!", "é", "😀", "\u0301", "▁", "ab", "a ", " \n")]


def drawn(count: int, seed: int = 0, most: int = 60) -> list[str]:
    """Texts of pieces of those above and of characters from everywhere, half surrogates left out."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        parts = []
        for _ in range(draw.randrange(1, 6)):
            text = draw.choice(TEXTS)
            start = draw.randrange(len(text) + 1)
            parts.append(text[start : start + draw.randrange(most)])
            if draw.random() < 0.3:
                point = draw.choice(
                    (draw.randrange(0x250), draw.randrange(0xD800), draw.randrange(0xE000, 0x110000))
                )
                parts.append(chr(point))
        texts.append("".join(parts))
    return texts
