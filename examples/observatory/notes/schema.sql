-- Observations that visitors write. AUTOINCREMENT: the id of a deleted note is not used again.
CREATE TABLE notes (
  id      INTEGER PRIMARY KEY AUTOINCREMENT,
  body    TEXT NOT NULL,          -- the id of a body in the catalog
  author  TEXT NOT NULL,
  text    TEXT NOT NULL,
  created TEXT NOT NULL,          -- RFC 3339, UTC
  key     TEXT UNIQUE             -- chosen by the writer, so that a write that is tried again is not doubled
) STRICT;

CREATE INDEX notes_by_body ON notes (body, id);
