"""The tracker: keeps the progress of every recording."""
