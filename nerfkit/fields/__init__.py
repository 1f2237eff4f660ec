"""Radiance fields: what is at a point, and how it looks from a direction."""
