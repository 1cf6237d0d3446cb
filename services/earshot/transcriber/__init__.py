"""The transcriber: writes down what was said in a segment."""
