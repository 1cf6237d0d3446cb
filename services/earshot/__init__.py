"""Earshot: speech in, search out.

A recording's path through the packages reads like the flow in the README: ``ingest`` accepts it,
``relay`` publishes it, ``segmenter`` cuts it, ``transcriber`` writes down what was said, ``embedder``
turns the words into vectors, ``indexer`` makes them searchable, ``tracker`` keeps the progress,
``query`` finds and answers, ``eraser`` forgets. ``kernel`` holds the vocabulary and the guarantees.
"""

__version__ = "0.1.0"
