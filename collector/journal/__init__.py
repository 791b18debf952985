"""The one durable thing between collecting and shipping: a SQLite file."""
