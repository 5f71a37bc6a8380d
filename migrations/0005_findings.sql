-- What was seen on a photo. Rows are keyed by the photo, so that a second write is the same write.
-- Boxes are in pixels of the upright photo at full size.

CREATE TABLE looked_at (
    photo_id  uuid PRIMARY KEY,
    width     integer NOT NULL CHECK (width > 0),    -- upright, as EXIF says
    height    integer NOT NULL CHECK (height > 0),
    -- By how much it was turned for that, clockwise. Boxes are in pixels of the photo without this turn.
    looked_turn smallint NOT NULL DEFAULT 0 CHECK (looked_turn IN (0, 90, 180, 270)),
    -- What was read in the lines of text that have a digit. From this, numbers are decided again, when more is known of
    -- the event, without the photo.
    lines     jsonb NOT NULL DEFAULT '[]' CHECK (jsonb_typeof(lines) = 'array')
);

CREATE TABLE face (
    photo_id  uuid NOT NULL,
    number    smallint NOT NULL,
    x         real NOT NULL, y      real NOT NULL,
    width     real NOT NULL, height real NOT NULL,
    score     real NOT NULL CHECK (score BETWEEN 0 AND 1),
    -- 128 numbers of half precision, little-endian, of unit length; only where face search is on.
    embedding bytea CHECK (octet_length(embedding) = 256),
    PRIMARY KEY (photo_id, number)
);

-- What decided a bib number: the readings of its line alone; the start list; the way in which the event's other
-- numbers look; the same person with this number on other photos of the event; or a person who has corrected it.
CREATE TYPE settled_by AS ENUM ('reading', 'start_list', 'numbering', 'person', 'organiser');

CREATE TABLE bib (
    photo_id   uuid NOT NULL,
    number     text NOT NULL CHECK (number ~ '^[0-9A-Z]{1,10}$'),
    -- NULL: an organiser has told the number, and not where it is.
    x          real, y      real,
    width      real, height real,
    score      real NOT NULL CHECK (score BETWEEN 0 AND 1),
    settled_by settled_by NOT NULL DEFAULT 'reading',
    -- What the readings alone said in this place, where that is another number.
    was        text CHECK (was ~ '^[0-9A-Z]{1,10}$' AND was <> number),
    PRIMARY KEY (photo_id, number),
    CHECK (num_nulls(x, y, width, height) = 0 OR num_nonnulls(x, y, width, height) = 0 AND settled_by = 'organiser')
);
-- Bib numbers are also searched by how they begin.
CREATE INDEX bib_prefix ON bib (number text_pattern_ops);

-- When an event's bib numbers were last decided again (functions/reconsider.sql).
-- It does not refer to its event: the check would lock that, while somebody who has it waits for this row.
CREATE TABLE reconsideration (
    event_id    bigint PRIMARY KEY,
    settled     bigint NOT NULL DEFAULT 0,           -- how many of its photos had been processed then
    asked       bigint NOT NULL DEFAULT 0,           -- how often it was asked for: by a start list, a correction, ...
    answered    bigint NOT NULL DEFAULT 0,           -- how often they had, then
    began_at    timestamptz,                         -- also tells whose turn it is: who began later takes it over
    ended_at    timestamptz,
    taken_until timestamptz                          -- somebody does it now
);

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

-- What people have corrected. A photo's row in bib or rotation says the same. What the models say is kept here, and
-- does not count while there is a correction (functions/corrections.sql).
CREATE TABLE number_correction (
    photo_id uuid PRIMARY KEY,
    numbers  text[] NOT NULL CHECK (cardinality(numbers) <= 100),
    -- False: the photo shows more numbers. One was erased, because its wearer asked for it.
    complete boolean NOT NULL DEFAULT true,
    found    jsonb CHECK (jsonb_typeof(found) = 'array'),  -- rows of bib; NULL: the photo was not processed
    actor    text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);

CREATE TABLE turn_correction (
    photo_id    uuid PRIMARY KEY,
    turn        smallint NOT NULL CHECK (turn IN (0, 90, 180, 270)),
    upright_key text,
    lossless    boolean,
    found       jsonb CHECK (jsonb_typeof(found) = 'object'), -- a row of rotation; NULL: AI rotation was not done
    actor       text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    at          timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK ((upright_key IS NULL) = (lossless IS NULL))
);

-- Photos of deleted events whose thumbnails and upright copies are still in the store. A worker deletes the files.
CREATE TABLE leftover_file (photo_id uuid PRIMARY KEY);

-- What somebody asked to be deleted, or what was due. A backup does not have the erasures that came after it. So a
-- worker also writes each of them into the store, and after a restore they are made again (`photogate erasures apply`).
CREATE TYPE erasure_kind AS ENUM ('person', 'embeddings', 'findings', 'event');

CREATE TABLE erasure (
    erasure_id uuid PRIMARY KEY,
    event_id   bigint NOT NULL REFERENCES event,
    kind       erasure_kind NOT NULL,
    actor      text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    bib        text CHECK (bib ~ '^[0-9A-Z]{1,10}$'), -- of a person
    photos     uuid[] NOT NULL DEFAULT '{}',         -- these go together: the faces of a person, one on each photo
    faces      smallint[] NOT NULL DEFAULT '{}',
    in_store   boolean NOT NULL DEFAULT false,
    CHECK (cardinality(photos) = cardinality(faces) AND cardinality(photos) <= 1000),
    CHECK (kind = 'person' OR bib IS NULL AND cardinality(photos) = 0)
);
CREATE INDEX erasure_of_event ON erasure (event_id, at);
CREATE INDEX erasure_to_store ON erasure (at) WHERE NOT in_store;

-- Bib numbers of people who were erased: they are not found again on photos that are processed later.
CREATE TABLE erased_bib (
    event_id bigint NOT NULL REFERENCES event,
    number   text NOT NULL CHECK (number ~ '^[0-9A-Z]{1,10}$'),
    PRIMARY KEY (event_id, number)
);

-- Workers write findings with a function (functions/findings.sql). An embedding is biometric: they read none.
GRANT SELECT ON looked_at, face, bib, rotation, number_correction, turn_correction, erasure, erased_bib,
    reconsideration
TO photogate_app;
