"""One file per source: what to ask, and how an answer becomes rows."""
