"""sentence-transformers: sentences as vectors."""

from collections.abc import Callable

from sentence_transformers import SentenceTransformer


def embedding(path: str, texts: list[str]) -> Callable[[], list[list[float]]]:
    """The vector of each text, of length one."""
    model = SentenceTransformer(path, device="cpu")
    return lambda: model.encode(texts, normalize_embeddings=True, show_progress_bar=False).tolist()
