"""Segments: the rows of a gallery, in pieces that are filled once and never changed.

New rows go to the open segment (`opened`), which lives in memory. A full one is frozen and, in the background, sealed:
its live rows are put in the order of their visibility patterns and written to one file (`container` is the format,
`sealing` what is put into it, `folder` where the files are), which is then searched (`sealed`). Deleted and replaced
rows are marked in a bitmap beside the segment, and leave it when it is written anew (`upkeep` says when).

SQLite stays the truth: `versions` holds a segment's rows against it when the store is opened.
"""
