"""A deterministic PAI: the world, the server that speaks for it, and the faults it may show.

The simulator shares the catalogue with the client and none of its logic, so that a mistake in
one shows against the other.
"""
