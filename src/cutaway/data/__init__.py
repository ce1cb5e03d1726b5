"""Text and tasks as numbers: documents, tokenizers, shards, batches. No torch below this folder."""
