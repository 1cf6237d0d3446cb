"""The segmenter: cuts recordings into segments at pauses."""
