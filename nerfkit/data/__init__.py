"""Image sets with camera poses, read from the formats in use into one in-memory form."""

from nerfkit.data.dataset import Dataset, load_dataset

__all__ = ["Dataset", "load_dataset"]
