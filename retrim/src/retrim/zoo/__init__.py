"""Models and data sets of the reproductions; nothing above imports them."""
