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
    -- Who has said that the people on the photos agreed to the search for faces, and when.
    face_consent_by text CHECK (length(face_consent_by) BETWEEN 1 AND 200),
    face_consent_at timestamptz,
    -- Faces and bib numbers are deleted so many days after the last photo was claimed. NULL: with the event.
    keep_findings_days    integer CHECK (keep_findings_days BETWEEN 1 AND 3650),
    findings_forgotten_at timestamptz,               -- the last time
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- The books need the queues, runs and ledger of a deleted event, so its row stays.
    deleted_at      timestamptz,
    deleted_by      text CHECK (length(deleted_by) BETWEEN 1 AND 200),
    -- What is still to be deleted from its photos, and the last photo key that was reached (functions/forget.sql).
    forgets         text CHECK (forgets IN ('embeddings', 'findings', 'everything')),
    forgotten_to    text,
    CHECK ((face_consent_by IS NULL) = (face_consent_at IS NULL)),
    CONSTRAINT event_faces_agreed CHECK (NOT face_search OR face_consent_by IS NOT NULL),
    CONSTRAINT event_deleted CHECK ((deleted_at IS NULL) = (deleted_by IS NULL)),
    CONSTRAINT event_deleted_has_no_faces CHECK (deleted_at IS NULL OR NOT face_search)
);
CREATE INDEX event_organisation ON event (organisation_id, event_id);
CREATE UNIQUE INDEX event_reference ON event (organisation_id, reference) WHERE deleted_at IS NULL;
CREATE INDEX event_forgets ON event (event_id) WHERE forgets IS NOT NULL;
CREATE INDEX event_keeps_for_days ON event (event_id) WHERE keep_findings_days IS NOT NULL AND deleted_at IS NULL;

-- A photo is a key in the store, within an event. Its id grows with time, so that neighbours in the queue are
-- neighbours in this table.
CREATE TABLE photo (
    photo_id   uuid PRIMARY KEY,
    event_id   bigint NOT NULL,
    key        text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 1024),
    created_at timestamptz NOT NULL DEFAULT now(),
    -- What the store's listing said of the file when a sync last saw it: its size and its ETag, or when it was changed.
    listed     text CHECK (length(listed) BETWEEN 1 AND 300),
    version    integer NOT NULL DEFAULT 0,           -- how often a sync has seen that it changed
    UNIQUE (event_id, key)
);

-- A queue is a log with two marks, head and tail. Positions in (head, tail] wait; those up to head were claimed or
-- passed over. Each mark has a row of its own (queue_head, queue_tail), so that those who append and those who claim do
-- not wait for each other, and the queue's own row is rarely rewritten. Its lock is the lock of those who claim.
CREATE TABLE queue (
    queue_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES account,
    event_id        bigint NOT NULL REFERENCES event,
    operation       operation NOT NULL,
    -- Why nothing is claimed here. Each of these has one kind of writer, and changing one never changes another.
    -- Nothing waits, and a claim has noticed. Whoever changes this holds the lock of the queue's tail: enqueue, claim,
    -- skip and restore. A queue that is empty is not always marked, but one that is marked is empty.
    drained         boolean NOT NULL DEFAULT true,
    paused_since    timestamptz,                       -- for want of credit: written under the account's row lock
    held            boolean NOT NULL DEFAULT false,    -- a hold stands: written by hold, lift and delete_event
    runnable        boolean NOT NULL GENERATED ALWAYS AS (NOT drained AND paused_since IS NULL AND NOT held) STORED,
    UNIQUE (event_id, operation)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);

-- These are partial, so that ten thousand paused or drained queues cost a claim nothing.
CREATE INDEX queue_runnable ON queue (organisation_id, queue_id) WHERE runnable;
CREATE INDEX queue_paused ON queue (organisation_id) WHERE paused_since IS NOT NULL;
CREATE INDEX queue_waiting ON queue (organisation_id) WHERE NOT drained;
CREATE INDEX queue_of_organisation ON queue (organisation_id);

-- How far claims have come in a queue's log. The queue's lock protects it.
CREATE TABLE queue_head (
    queue_id bigint PRIMARY KEY REFERENCES queue,
    head     bigint NOT NULL DEFAULT 0 CHECK (head >= 0),
    skipped  bigint NOT NULL DEFAULT 0 CHECK (skipped >= 0), -- how many of the positions in (head, tail] are skipped
    claimed  bigint NOT NULL DEFAULT 0                 -- photos that were ever claimed here
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);

-- The end of a queue's log: the position of its last job. Its lock is the lock of those who append.
CREATE TABLE queue_tail (
    queue_id bigint PRIMARY KEY REFERENCES queue,
    tail     bigint NOT NULL DEFAULT 0 CHECK (tail >= 0)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);

-- How many of a queue's photos were settled. It is a row of its own, because a settlement does not lock the queue. The
-- account's lock protects it.
CREATE TABLE queue_settled (
    queue_id   bigint PRIMARY KEY REFERENCES queue,
    committed  bigint NOT NULL DEFAULT 0 CHECK (committed >= 0),
    refunded   bigint NOT NULL DEFAULT 0 CHECK (refunded >= 0),
    undecided  bigint NOT NULL DEFAULT 0 CHECK (undecided >= 0),  -- of the refunded: no failures
    duplicates bigint NOT NULL DEFAULT 0 CHECK (duplicates >= 0), -- and these neither
    CHECK (undecided + duplicates <= refunded)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500,
        autovacuum_vacuum_cost_delay = 0);

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
-- A list is only written and read as a whole, so it is one value: a row for each number took 40 times as long.
CREATE TABLE start_list (
    event_id bigint PRIMARY KEY REFERENCES event,
    numbers  text[] NOT NULL CHECK (array_ndims(numbers) = 1 AND cardinality(numbers) BETWEEN 1 AND 1000000),
    -- Each has one to ten characters; and none has a space in it, or is NULL.
    CHECK (array_to_string(numbers, ' ', '') ~ '^([0-9A-Z]{1,10} )*[0-9A-Z]{1,10}$'),
    CHECK (array_to_string(numbers, '') ~ '^[0-9A-Z]*$')
);

GRANT SELECT ON event, photo, queue, queue_head, queue_tail, queue_settled, hold TO photogate_app;
