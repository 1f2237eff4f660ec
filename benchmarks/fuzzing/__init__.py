"""Damaged inputs for every loader: valid files, what is done to them, and who must refuse them."""
