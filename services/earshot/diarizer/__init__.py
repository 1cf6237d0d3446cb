"""The diarizer: finds out who speaks when."""
