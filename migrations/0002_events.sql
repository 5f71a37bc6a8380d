-- An event belongs to an organisation, and has one queue for each operation.

CREATE TYPE operation AS ENUM ('photo_processing', 'ai_rotation');

CREATE TABLE event (
    event_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES organisation,
    name            text NOT NULL CHECK (length(btrim(name)) BETWEEN 1 AND 200),
    -- As that of an organisation.
    reference       text CHECK (reference = btrim(reference) AND length(reference) BETWEEN 1 AND 200),
    bib_search      boolean NOT NULL DEFAULT true,
    face_search     boolean NOT NULL DEFAULT false, -- embeddings are biometric data: only where asked for
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- The books need the queues, runs and ledger of a deleted event, so its row stays.
    deleted_at      timestamptz,
    deleted_by      text CHECK (length(deleted_by) BETWEEN 1 AND 200),
    -- What is still to be deleted from its photos, and the last photo key that was reached (functions/forget.sql).
    forgets         text CHECK (forgets IN ('embeddings', 'everything')),
    forgotten_to    text,
    CONSTRAINT event_deleted CHECK ((deleted_at IS NULL) = (deleted_by IS NULL)),
    CONSTRAINT event_deleted_has_no_faces CHECK (deleted_at IS NULL OR NOT face_search)
);
CREATE INDEX event_organisation ON event (organisation_id, event_id);
CREATE UNIQUE INDEX event_reference ON event (organisation_id, reference) WHERE deleted_at IS NULL;
CREATE INDEX event_forgets ON event (event_id) WHERE forgets IS NOT NULL;

-- A photo is a key in the store, within an event. Its id grows with time, so that neighbours in the queue are
-- neighbours in this table.
CREATE TABLE photo (
    photo_id   uuid PRIMARY KEY,
    event_id   bigint NOT NULL,
    key        text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 1024),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (event_id, key)
);

-- A queue is a log with two marks, head and tail. Positions in (head, tail] wait; those up to head were claimed or
-- passed over.
CREATE TABLE queue (
    queue_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES account,
    event_id        bigint NOT NULL REFERENCES event,
    operation       operation NOT NULL,
    head            bigint NOT NULL DEFAULT 0,
    tail            bigint NOT NULL DEFAULT 0,
    -- How many of the positions in (head, tail] are skipped. A queue with nothing else left is drained.
    skipped         bigint NOT NULL DEFAULT 0,
    -- Why nothing is claimed here. Each of these has one kind of writer, and changing one never changes another.
    drained         boolean NOT NULL DEFAULT true,     -- nothing waits: written by enqueue, claim and skip
    paused_since    timestamptz,                       -- for want of credit: written under the account's row lock
    held            boolean NOT NULL DEFAULT false,    -- a hold stands: written by hold, lift and delete_event
    runnable        boolean NOT NULL GENERATED ALWAYS AS (NOT drained AND paused_since IS NULL AND NOT held) STORED,
    CHECK (head BETWEEN 0 AND tail),
    CHECK (drained = (head = tail)),
    CHECK (skipped >= 0 AND (skipped = 0 OR skipped < tail - head)),
    UNIQUE (event_id, operation)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);

-- These are partial, so that ten thousand paused or drained queues cost a claim nothing.
CREATE INDEX queue_runnable ON queue (organisation_id, queue_id) WHERE runnable;
CREATE INDEX queue_paused ON queue (organisation_id) WHERE paused_since IS NOT NULL;
CREATE INDEX queue_of_organisation ON queue (organisation_id);

-- A person, or maintenance, keeps a queue from running. A queue may have several holds; it runs when none stands.
CREATE TABLE hold (
    hold_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue_id  bigint NOT NULL REFERENCES queue,
    owner     text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
    note      text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    since     timestamptz NOT NULL DEFAULT now(),
    until     timestamptz,
    lifted_at timestamptz,
    lifted_by text,
    for_good  boolean NOT NULL DEFAULT false,        -- nobody lifts it: its event was deleted
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL)),
    CONSTRAINT hold_for_good CHECK (NOT for_good OR lifted_at IS NULL AND until IS NULL)
);
CREATE INDEX hold_standing ON hold (queue_id) WHERE lifted_at IS NULL;
CREATE INDEX hold_expiry ON hold (until) WHERE lifted_at IS NULL;

-- The bib numbers that are worn, where the organiser has told them. No names: nobody needs them to read a number.
CREATE TABLE start_list (
    event_id bigint NOT NULL REFERENCES event,
    number   text NOT NULL CHECK (number ~ '^[0-9A-Z]{1,10}$'),
    PRIMARY KEY (event_id, number)
);

GRANT SELECT ON event, photo, queue, hold TO photogate_app;
