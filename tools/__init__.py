"""Makers of the files that are committed and made from the program: documents and schemas. Not installed."""
