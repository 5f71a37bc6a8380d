-- An event belongs to an organisation, and has one queue for each operation.

CREATE TYPE operation AS ENUM ('photo_processing', 'ai_rotation');

-- How an organisation spends its credits. fair: every event in turn. priority: urgent events before normal ones, and
-- these before background ones. finish_first: one event after the other, in a chosen order.
CREATE TYPE spend_order AS ENUM ('fair', 'priority', 'finish_first');
CREATE TYPE event_class AS ENUM ('urgent', 'normal', 'background');

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
    class           event_class NOT NULL DEFAULT 'normal',    -- counts where the organisation's order is 'priority'
    turn            integer CHECK (turn BETWEEN 1 AND 1000000), -- 'finish_first': the lowest first, then those without
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
CREATE INDEX event_placed ON event (organisation_id, event_id) WHERE class <> 'normal' OR turn IS NOT NULL;
CREATE INDEX event_forgets ON event (event_id) WHERE forgets IS NOT NULL;
CREATE INDEX event_keeps_for_days ON event (event_id) WHERE keep_findings_days IS NOT NULL AND deleted_at IS NULL;

-- What an organisation has decided about its credits. It has a row as long as it has decided anything, and
-- account.steered says the same.
CREATE TABLE steering (
    organisation_id bigint PRIMARY KEY REFERENCES account,
    spend_order     spend_order NOT NULL DEFAULT 'fair',
    weight          integer NOT NULL DEFAULT 1 CHECK (weight BETWEEN 1 AND 100), -- its share of a claim
    -- At most so many credits of its floors were missing when a person last changed a floor or took credits away.
    -- Claims can only make it less: so it is known that no event has spent what was kept for another (an invariant).
    shortfall       bigint NOT NULL DEFAULT 0 CHECK (shortfall >= 0)
);

-- The credits of one event, for both operations. It uses those that its photos have reserved or spent.
CREATE TABLE budget (
    event_id        bigint PRIMARY KEY REFERENCES event,
    organisation_id bigint NOT NULL REFERENCES account,
    cap             bigint CHECK (cap BETWEEN 0 AND 1000000000), -- it never uses more; NULL: no such limit
    floor           bigint NOT NULL DEFAULT 0 CHECK (floor BETWEEN 0 AND 1000000000), -- so many are kept for it
    used_then       bigint NOT NULL,                 -- when this was set: a cap may be set below what is used
    CHECK (cap IS NOT NULL OR floor > 0),
    CONSTRAINT budget_floor_is_below_cap CHECK (floor <= cap)
);
CREATE INDEX budget_of_organisation ON budget (organisation_id);

-- How fast photos are claimed at most: of one event, or (event_id NULL) of all events of the organisation together.
CREATE TABLE pace (
    organisation_id bigint NOT NULL REFERENCES account,
    event_id        bigint REFERENCES event,
    in_flight_max   integer CHECK (in_flight_max BETWEEN 1 AND 1000000), -- photos in progress
    per_minute      integer CHECK (per_minute BETWEEN 1 AND 1000000),
    -- Nothing is claimed in these hours of the organisation's time zone. They may go over midnight.
    quiet_from      time,
    quiet_to        time,
    -- A token bucket: so many photos could be claimed at filled_at. Each claim takes from it (functions/paces.sql).
    tokens          double precision NOT NULL DEFAULT 0 CHECK (tokens >= 0),
    filled_at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    CHECK (num_nonnulls(in_flight_max, per_minute, quiet_from) > 0),
    CHECK ((quiet_from IS NULL) = (quiet_to IS NULL)),
    CONSTRAINT pace_quiet_hours_end CHECK (quiet_from <> quiet_to)
);
CREATE UNIQUE INDEX pace_of_event ON pace (event_id) WHERE event_id IS NOT NULL;
CREATE UNIQUE INDEX pace_of_organisation ON pace (organisation_id) WHERE event_id IS NULL;
CREATE INDEX pace_of_all ON pace (organisation_id);

-- Every budget there ever was, and after which ledger entry it was set. So the ledger tells whether each was kept.
CREATE TABLE budget_change (
    change_id       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES account,
    entry           bigint NOT NULL,
    event_id        bigint NOT NULL REFERENCES event,
    cap             bigint,
    floor           bigint NOT NULL,
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    at              timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX budget_change_history ON budget_change (organisation_id, entry, change_id);

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
-- passed over. (Where a person has decided otherwise, a stretch says so: 0003_jobs.sql.) Each mark has a row of its own
-- (queue_head, queue_tail), so that those who append and those who claim do not wait for each other, and the queue's
-- own row is rarely rewritten. Its lock is the lock of those who claim.
CREATE TABLE queue (
    queue_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES account,
    event_id        bigint NOT NULL REFERENCES event,
    operation       operation NOT NULL,
    -- Why nothing is claimed here. Each of these has one kind of writer, and changing one never changes another.
    -- Nothing waits, and a claim has noticed. Whoever changes this holds the lock of the queue's tail: enqueue, claim,
    -- skip and restore. A queue that is empty is not always marked, but one that is marked is empty.
    drained         boolean NOT NULL DEFAULT true,
    filled_at       timestamptz NOT NULL DEFAULT clock_timestamp(), -- since when photos wait and may be claimed
    paused_since    timestamptz,                       -- nothing to spend: written under the account's row lock
    held            boolean NOT NULL DEFAULT false,    -- a hold stands: written by hold, lift and delete_event
    -- Some positions are not claimed in their turn (stretch). Whoever changes this holds this row's lock.
    stretched       boolean NOT NULL DEFAULT false,
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
    -- How many positions after the head do not wait, less those up to it that do: tail - head - not_waiting wait.
    not_waiting bigint NOT NULL DEFAULT 0,
    claimed  bigint NOT NULL DEFAULT 0,                -- photos that were ever claimed here
    claimed_at timestamptz                             -- the last time
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

-- How many photos of a queue were settled, and failed, in a slot of five minutes (functions/pulse.sql). For pictures of
-- the last three hours.
CREATE TABLE pulse (
    slot     integer NOT NULL,
    queue_id bigint NOT NULL REFERENCES queue,
    settled  bigint NOT NULL CHECK (settled > 0),
    failed   bigint NOT NULL CHECK (failed >= 0),
    PRIMARY KEY (queue_id, slot)
);
CREATE INDEX pulse_of_all ON pulse (slot);

-- How many of a queue's photos its pulse has counted.
CREATE TABLE pulse_taken (
    queue_id bigint PRIMARY KEY REFERENCES queue,
    settled  bigint NOT NULL CHECK (settled > 0),
    failed   bigint NOT NULL CHECK (failed >= 0)
);

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

-- Files that were uploaded through the service: what the store had last under the key, from whom. Each file of a large
-- upload has its row here, so the audit log has no line for each (functions/uploads.sql). The store has the bytes.
CREATE TABLE upload (
    event_id        bigint NOT NULL REFERENCES event,
    key             text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 1024),
    organisation_id bigint NOT NULL REFERENCES organisation,
    bytes           bigint NOT NULL CHECK (bytes > 0),
    sha256          bytea NOT NULL CHECK (octet_length(sha256) = 32),
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    at              timestamptz NOT NULL,
    PRIMARY KEY (event_id, key)
);
CREATE INDEX upload_latest ON upload (event_id, at);
CREATE INDEX upload_of_a_day ON upload (organisation_id, at) INCLUDE (bytes);

-- The page on which athletes look for their photos, without an account. No row: it is off. The secret is readable,
-- because an organiser prints it again (decision 0079).
CREATE TABLE finder (
    event_id  bigint PRIMARY KEY REFERENCES event,
    secret    text NOT NULL UNIQUE CHECK (secret ~ '^[0-9a-f]{32}$'),
    is_public boolean NOT NULL,                      -- also at the event's number
    set_by    text NOT NULL CHECK (length(set_by) BETWEEN 1 AND 200),
    set_at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

GRANT SELECT ON event, finder, steering, budget, budget_change, pace, photo, queue, queue_head, queue_tail,
    queue_settled, pulse, pulse_taken, hold, upload
TO photogate_app;
