"""The relay: publishes what the door decided."""
