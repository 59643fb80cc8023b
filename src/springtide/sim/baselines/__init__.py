"""Rivals: each an object with a name and `plan(snapshot)`, built from its own rule and source."""
