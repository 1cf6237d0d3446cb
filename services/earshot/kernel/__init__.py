"""The vocabulary and the guarantees. Imports nothing else of Earshot's."""
