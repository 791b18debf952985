"""One file per product: the types of its answers, and its rows of the catalogue."""
