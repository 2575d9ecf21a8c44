"""Galleries: SQLite holds the truth (`store`), memory holds what is searched (`columns`), engines rank it.

`catalog.Catalog` is the door: it opens the store and hands out `gallery.Gallery` objects, whose methods block and may
be called from any thread. A write is one committed transaction and then one published snapshot; a search reads one
snapshot from its first row to its last, so it never waits for a write and never sees half of one.
"""
