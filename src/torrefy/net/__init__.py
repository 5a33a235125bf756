"""Graph to Net: compile, run, cut, fold."""
