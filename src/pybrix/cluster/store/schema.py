"""The tables of the cluster database, and how older ones become newer ones. Pure text.

`log` holds one row per change, the whole object in each: the current state is the newest row of every key, and
what is older serves watches until it is compacted. A row of type DELETED carries the object's last form.
"""

from __future__ import annotations

APPLICATION_ID = 0x70796278  # "pybx": `file cluster.db` and a foreign database are told apart by it

# MIGRATIONS[n] brings a database of version n to version n + 1; an empty one has version 0.
MIGRATIONS: tuple[str, ...] = (
    """
    CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE log (
        revision  INTEGER PRIMARY KEY,
        type      TEXT NOT NULL CHECK (type IN ('ADDED', 'MODIFIED', 'DELETED')),
        resource  TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name      TEXT NOT NULL,
        body      BLOB NOT NULL
    );
    """,
    # A recreated object of the same name is another object: rows say which one they are about.
    """
    ALTER TABLE log ADD COLUMN uid TEXT NOT NULL DEFAULT '';
    UPDATE log SET uid = COALESCE(json_extract(CAST(body AS TEXT), '$.metadata.uid'), '');
    """,
)
SCHEMA_VERSION = len(MIGRATIONS)
