"""One process owns journal, store, quotas and budget; the others ask it over a socket."""
