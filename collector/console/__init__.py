"""The console: pages for people over what a process that collects knows and what is stored, read-only."""
