"""Corpora of music captions: read from files, flagged, embedded, kept in the database, written out again."""
