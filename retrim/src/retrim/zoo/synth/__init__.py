"""Data sets drawn by program, in the layouts of real ones: for tests, and where the real ones are not at hand."""
