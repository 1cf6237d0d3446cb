"""Answers: from a question in a conversation to sentences with proof."""
