"""Post-processing of finished images and video frames: super-resolution."""
