"""Two loops around the journal: collect turns time into entries, ship turns entries into rows."""
