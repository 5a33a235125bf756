"""The layer types, a module a family, a class a type."""
