"""The heads that are shipped, one module a family."""
