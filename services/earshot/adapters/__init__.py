"""One file for each outside thing: the only place where heavy libraries are imported."""
