"""nerfkit: fit radiance fields to image sets, render fly-throughs, measure speed."""

__version__ = "0.1.0"
