-- What was seen on a photo. Rows are keyed by the photo, so that a second write is the same write.
-- Boxes are in pixels of the upright photo at full size.

CREATE TABLE looked_at (
    photo_id  uuid PRIMARY KEY,
    width     integer NOT NULL CHECK (width > 0),    -- upright, as EXIF says
    height    integer NOT NULL CHECK (height > 0)
);

CREATE TABLE face (
    photo_id  uuid NOT NULL,
    number    smallint NOT NULL,
    x         real NOT NULL, y      real NOT NULL,
    width     real NOT NULL, height real NOT NULL,
    score     real NOT NULL CHECK (score BETWEEN 0 AND 1),
    embedding real[] CHECK (cardinality(embedding) = 128), -- unit length; only where face search is on
    PRIMARY KEY (photo_id, number)
);

CREATE TABLE bib (
    photo_id uuid NOT NULL,
    number   text NOT NULL CHECK (number ~ '^[0-9A-Z]{1,10}$'),
    x        real NOT NULL, y      real NOT NULL,
    width    real NOT NULL, height real NOT NULL,
    score    real NOT NULL CHECK (score BETWEEN 0 AND 1),
    PRIMARY KEY (photo_id, number)
);
-- Bib numbers are also searched by how they begin.
CREATE INDEX bib_prefix ON bib (number text_pattern_ops);

CREATE TABLE rotation (
    photo_id    uuid PRIMARY KEY,
    turn        smallint NOT NULL CHECK (turn IN (0, 90, 180, 270)), -- clockwise, still needed after EXIF was applied
    confidence  real NOT NULL CHECK (confidence BETWEEN 0 AND 1),
    abstained   boolean NOT NULL,
    -- Where the upright photo was written. NULL: the original is upright, or nobody knows.
    upright_key text,
    lossless    boolean,
    CHECK (NOT abstained OR turn = 0),
    CHECK ((upright_key IS NULL) = (lossless IS NULL))
);

-- Photos of deleted events whose thumbnails and upright copies are still in the store. A worker deletes the files.
CREATE TABLE leftover_file (photo_id uuid PRIMARY KEY);

-- Workers write findings with a function (functions/findings.sql). An embedding is biometric: they read none.
GRANT SELECT ON looked_at, face, bib, rotation TO photogate_app;
