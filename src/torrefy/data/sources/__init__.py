"""Sources: where items come from, one module a kind."""
