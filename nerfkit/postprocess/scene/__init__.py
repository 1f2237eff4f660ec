"""Refining the renders of a fitted scene: rendered small, then enlarged with its photographs.

`geometry` (which photograph shows what a pixel shows), `sources` (the photographs), `network` (what
blends them), `train` (a refiner for one run), `refined` (a run that renders through it), `flicker`
(how far neighbouring frames disagree).
"""
