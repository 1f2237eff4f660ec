"""Weights of small networks that come with nerfkit."""
