-- Every record is a JSON document; the columns beside it are what lists and compare-and-set need.
CREATE TABLE IF NOT EXISTS images (
    id         TEXT PRIMARY KEY,              -- uuid, also the directory's name
    arn        TEXT NOT NULL UNIQUE,
    account    TEXT NOT NULL,
    created_at INTEGER NOT NULL,              -- milliseconds
    doc        TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS images_by_account ON images (account, created_at, id);

CREATE TABLE IF NOT EXISTS versions (
    image   TEXT NOT NULL REFERENCES images (id) ON DELETE CASCADE,
    number  INTEGER NOT NULL,
    doc     TEXT NOT NULL,
    PRIMARY KEY (image, number)
) STRICT;

CREATE TABLE IF NOT EXISTS microvms (
    id         TEXT PRIMARY KEY,
    account    TEXT NOT NULL,
    endpoint   TEXT NOT NULL UNIQUE,          -- host, without port
    image_arn  TEXT NOT NULL,
    version    INTEGER NOT NULL,
    state      TEXT NOT NULL,
    generation INTEGER NOT NULL,
    started_at INTEGER NOT NULL,              -- milliseconds
    doc        TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS microvms_by_account ON microvms (account, started_at, id);
CREATE INDEX IF NOT EXISTS microvms_by_image ON microvms (image_arn, state);
CREATE INDEX IF NOT EXISTS microvms_of_image ON microvms (account, image_arn, started_at, id);
-- What is forgotten first.
CREATE INDEX IF NOT EXISTS microvms_over ON microvms (doc ->> '$.life.terminated_at') WHERE state = 'TERMINATED';
-- What quotas count.
CREATE INDEX IF NOT EXISTS microvms_live ON microvms (account) WHERE state <> 'TERMINATED';
-- Records of a hearth that had no quotas: the size is their version's.
UPDATE microvms SET doc = json_set(doc, '$.memory_mib', COALESCE(
    (SELECT versions.doc ->> '$.configuration.resources[0].minimumMemoryInMiB'
     FROM images JOIN versions ON versions.image = images.id
     WHERE images.arn = microvms.image_arn AND versions.number = microvms.version), 2048))
WHERE state <> 'TERMINATED' AND doc ->> '$.memory_mib' IS NULL;

-- What an account in a region has one of by that name. Versions never change and their numbers never come back.
CREATE TABLE IF NOT EXISTS connectors (
    id         TEXT PRIMARY KEY,              -- uuid
    account    TEXT NOT NULL,
    region     TEXT NOT NULL,
    name       TEXT NOT NULL,
    state      TEXT NOT NULL,
    created_at INTEGER NOT NULL,              -- milliseconds
    doc        TEXT NOT NULL,
    UNIQUE (account, region, name)
) STRICT;
CREATE INDEX IF NOT EXISTS connectors_by_account ON connectors (account, region, created_at, id);

CREATE TABLE IF NOT EXISTS connector_versions (
    connector TEXT NOT NULL REFERENCES connectors (id) ON DELETE CASCADE,
    number    INTEGER NOT NULL,
    state     TEXT NOT NULL,
    doc       TEXT NOT NULL,
    PRIMARY KEY (connector, number)
) STRICT;

-- What happened to microVMs and images, each row in the transaction that made it so. Usage is folded from these rows.
CREATE TABLE IF NOT EXISTS history (
    account      TEXT NOT NULL,
    n            INTEGER NOT NULL,            -- the order of commits, by account; never comes back
    at           INTEGER NOT NULL,            -- milliseconds
    kind         TEXT NOT NULL,               -- 'microvm' or 'image'
    resource     TEXT NOT NULL,               -- microVM's id, image's ARN
    generation   INTEGER,                     -- of a microVM, after the event
    image        TEXT NOT NULL,               -- ARN
    version      TEXT,                        -- '<n>.0'; NULL: the image as a whole
    what         TEXT NOT NULL,
    state        TEXT NOT NULL,               -- what it led to, as the API spells it
    memory_mib   INTEGER NOT NULL,            -- baseline; 0: not known
    memory_bytes INTEGER,                     -- of the snapshot that was written or restored from
    disk_bytes   INTEGER,
    reason       TEXT,
    PRIMARY KEY (account, n)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS history_of_resource ON history (resource, n);
CREATE UNIQUE INDEX IF NOT EXISTS history_of_generation ON history (resource, generation) WHERE generation IS NOT NULL;

CREATE INDEX IF NOT EXISTS history_of_the_gone ON history (at) WHERE kind = 'image' AND what = 'Deleted';

-- The last number given, which outlives the row.
CREATE TABLE IF NOT EXISTS history_numbers (
    account TEXT PRIMARY KEY,
    last    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- When traffic of a microVM was last seen, as of some seconds ago: what its idle clock goes on from after a restart.
CREATE TABLE IF NOT EXISTS activity (
    microvm TEXT PRIMARY KEY,
    at      INTEGER NOT NULL                  -- milliseconds
) STRICT, WITHOUT ROWID;

CREATE TABLE IF NOT EXISTS client_tokens (
    account     TEXT NOT NULL,
    operation   TEXT NOT NULL,
    token       TEXT NOT NULL,
    fingerprint TEXT NOT NULL,                -- of the parameters
    resource    TEXT NOT NULL,
    at          INTEGER NOT NULL,             -- milliseconds
    PRIMARY KEY (account, operation, token)
) STRICT, WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS client_tokens_by_age ON client_tokens (at);
CREATE INDEX IF NOT EXISTS client_tokens_of_resource ON client_tokens (resource, operation);

-- Random keys that only this installation knows, made when the database is.
CREATE TABLE IF NOT EXISTS secrets (
    name  TEXT PRIMARY KEY,
    value BLOB NOT NULL
) STRICT, WITHOUT ROWID;
INSERT OR IGNORE INTO secrets VALUES ('cursors', randomblob(32));

-- Access keys; the policy is its user's and the same in all of the user's rows.
CREATE TABLE IF NOT EXISTS keys (
    id         TEXT PRIMARY KEY,              -- access key id
    account    TEXT NOT NULL,
    user       TEXT NOT NULL,                 -- name, or 'root'
    active     INTEGER NOT NULL,              -- 0 or 1
    created_at INTEGER NOT NULL,              -- milliseconds
    sealed     BLOB NOT NULL,                 -- the secret, encrypted
    policy     TEXT                           -- JSON as it was given; NULL: none
) STRICT;

-- Custom host names.
CREATE TABLE IF NOT EXISTS names (
    host    TEXT PRIMARY KEY,                 -- lower case
    account TEXT NOT NULL,
    doc     TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS names_by_account ON names (account);
