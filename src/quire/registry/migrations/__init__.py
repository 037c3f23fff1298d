"""Schema changes of the registry, in alembic's layout. Append-only: a released revision is never edited.

To add one: a module in `versions` whose `down_revision` is the newest, whose docstring says why, and the same
change in `schema.py`; a test compares the two.
"""
