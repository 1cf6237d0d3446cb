"""The embedder: turns transcripts into passages with vectors."""
