"""What the Triton kernels of several ops share (the headers beside it: what the C++ shares)."""
