"""Rows of which nobody can say whether the store has them: how each kind comes back, once, into the open journal.

Three things can part rows from the journal that is at work. They differ in where the rows are, and in nothing else:

- The file was damaged. `set_aside` moves it away, whole, and begins a new one; collecting goes on.
- The file belongs to another machine, or was set aside before. `salvage` finds what can still be read of it, and
  `replay` takes that over.
- The file is sound, but its streams may have been collected elsewhere meanwhile. `orphans` sets their rows apart in
  the same file, until nobody else can store them.

Whichever it was, the rows become chunks of mode COMPARE: the store is read before anything is inserted, so what it has
is not stored twice, and what it lacks is not lost. Calls have no rows to be compared with; they keep the id of the
segment that they were sent in, by which the store knows them.
"""
