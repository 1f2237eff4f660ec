"""What every scene recipe shares: shapes, textures, materials, ray tracing, cameras, data sets.

World units are the scene's own (about [-1.2, 1.2] a side), +Z up; colours inside the tracer are
linear RGB, those in files are display-encoded (sRGB curve). Everything is fp32 numpy.
"""
