"""Blur kernels: what they are, what they do to an image, and how to find the one that did it.

y = (x * k) reduced s times, plus noise. `kernels` (families), `forward` (the model), `measure` (how
far off), `kernel_files`. With sharp images: `pairs` (least squares), `priors` (families). Blind:
`spectral` (first guess), `blind` (alternation without training), `network` and `train` (the
unrolled network). `wiener` is the closed-form x-step of both; `estimate` the one way in.
"""
