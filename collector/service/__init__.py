"""The service: what runs for months, and what it answers over HTTP."""
