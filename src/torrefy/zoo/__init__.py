"""Models by name: cards, pull, cache, verify."""
