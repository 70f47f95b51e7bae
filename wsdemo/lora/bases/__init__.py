"""Base models as tables: one file a base, and the loader that compiles them into lookups."""
