"""The eraser: forgets recordings, wholly or one attempt."""
