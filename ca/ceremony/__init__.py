"""Ceremonies: what an offline key signs, from one reviewed plan (docs/root-ceremony.md)."""
