"""The transcriber: writes down what was said in each segment."""
