"""The query: finds what was said, and shows it."""
