"""How a stage runs: its host on Faust, and the two transports under it."""
