-- From the queue to the outcome. Only in_flight churns; the other tables grow by rows that rarely or never change.

-- Jobs and top-ups share one id space: their ids are the ledger's transactions.
CREATE SEQUENCE transaction_id CACHE 64;

-- One enqueue call that queued photos. A run is written once. The credits that it moves are counted by day, in usage:
-- a row that could still grow in a month that is over would change that month.
CREATE TABLE run (
    run_id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    event_id        bigint NOT NULL,
    queue_id        bigint NOT NULL REFERENCES queue,
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    retry           boolean NOT NULL,
    asked           integer NOT NULL,
    queued          integer NOT NULL,
    first_position  bigint NOT NULL,                 -- its jobs stand in [first_position, first_position + queued)
    created_at      timestamptz NOT NULL DEFAULT now(),
    -- The trace of the enqueuer's call (W3C traceparent). It goes with the photos, so that their work is seen in it.
    trace           text CHECK (trace ~ '^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$'),
    -- It was taken back before any of its photos was claimed. It has no jobs any more.
    undone_at       timestamptz,
    undone_by       text CHECK (length(undone_by) BETWEEN 1 AND 200),
    CHECK (queued BETWEEN 1 AND asked),
    CHECK ((undone_at IS NULL) = (undone_by IS NULL))
) WITH (fillfactor = 50);
CREATE INDEX run_history ON run (organisation_id, run_id);
CREATE INDEX run_of_queue ON run (queue_id, run_id);
CREATE INDEX run_retries ON run (queue_id) WHERE retry;

-- Insert-only, so that the queue never bloats, however old the oldest snapshot is.
CREATE TABLE job (
    queue_id bigint NOT NULL,
    position bigint NOT NULL,
    job_id   bigint NOT NULL DEFAULT nextval('transaction_id'),
    photo_id uuid NOT NULL,
    run_id   bigint NOT NULL,
    retry    smallint NOT NULL,                      -- 0, and one more for each time that it was queued again
    -- What the enqueuer tells the worker beside the key. It is small, because each claim reads it. Callers are held to
    -- 4096 bytes; as jsonb the same value can be longer (1e300 has 301 digits).
    payload  jsonb CHECK (octet_length(payload::text) <= 16384),
    PRIMARY KEY (queue_id, position)
);
-- A photo is queued once for an operation. A retry after a refund is a new job, and so is a changed file.
CREATE UNIQUE INDEX job_once ON job (photo_id, queue_id, retry);

-- A photo that is queued for photo processing when its AI rotation has ended (functions/follow_ups.sql). A row is
-- written once, and deleted in the transaction that appends its job.
CREATE TABLE follow_up (
    queue_id        bigint NOT NULL,                 -- of photo processing
    photo_id        uuid NOT NULL,
    organisation_id bigint NOT NULL,
    after_queue     bigint NOT NULL,                 -- of AI rotation: the queue, the position and the job
    after_position  bigint NOT NULL,
    after_job       bigint NOT NULL,
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    take            text NOT NULL CHECK (take IN ('new', 'listed')),
    urgent          boolean NOT NULL DEFAULT false,  -- it is claimed before the others of its queue
    payload         jsonb CHECK (octet_length(payload::text) <= 16384),
    PRIMARY KEY (queue_id, photo_id)
);
CREATE INDEX follow_up_next ON follow_up (after_queue, after_position);
CREATE INDEX follow_up_of_organisation ON follow_up (organisation_id);

-- Positions of a queue that claims do not take in their turn (functions/stretches.sql). Those of one queue do not
-- overlap. What is in none waits if it is after the head.
-- skipped: a person took them out. first: they wait, and are claimed before all others. taken: they were claimed
-- before their turn, and the head has not passed them yet. undone: their jobs were taken back, and are not there.
CREATE TYPE stretch_kind AS ENUM ('skipped', 'first', 'taken', 'undone');

CREATE TABLE stretch (
    queue_id      bigint NOT NULL,
    from_position bigint NOT NULL CHECK (from_position > 0),
    to_position   bigint NOT NULL,
    kind          stretch_kind NOT NULL,
    place         bigint,                            -- of first: the lowest is claimed first, then by position
    run_id        bigint,                            -- the run that was cancelled, moved or taken back as a whole
    actor         text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    at            timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (queue_id, from_position),
    CHECK (from_position <= to_position),
    CHECK ((kind = 'first') = (place IS NOT NULL))
);
CREATE INDEX stretch_first ON stretch (queue_id, place, from_position) WHERE kind = 'first';

-- What a person did to an event's queues, for as long as it can be taken back (functions/undo.sql).
CREATE TYPE undo_act AS ENUM ('queue', 'retry', 'skip', 'restore', 'cancel', 'first', 'hold', 'lift');

CREATE TABLE undo (
    undo_id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES organisation,
    event_id        bigint NOT NULL,                 -- no reference: a pipeline would keep the event locked
    act             undo_act NOT NULL,
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    runs            bigint[],                        -- of queue and retry: the runs
    holds           bigint[],                        -- of hold and lift: the holds
    -- Of the others: the queue, the positions, and the stretches that they were in before.
    queue_id        bigint,
    positions       int8multirange,
    stretches       stretch[],
    follow_ups      follow_up[],                     -- that were deleted
    undone_at       timestamptz,
    bulk_id         bigint                           -- one call did several: the lowest of their numbers
);
CREATE INDEX undo_of_bulk ON undo (bulk_id) WHERE bulk_id IS NOT NULL;
CREATE INDEX undo_of_event ON undo (event_id, at);
CREATE INDEX undo_age ON undo (at);

-- A worker process: one row an incarnation. Neither its id nor its name is ever used again. The row is kept, because
-- the books name workers for ever.
CREATE TABLE worker (
    worker_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name           text NOT NULL UNIQUE CHECK (length(name) BETWEEN 1 AND 200),
    -- SHA-256 of its key. Only the process that registered knows the key, and each of its calls names it.
    key_hash       bytea NOT NULL UNIQUE CHECK (octet_length(key_hash) = 32),
    slots          integer NOT NULL,
    started_at     timestamptz NOT NULL DEFAULT now(),
    lease_until    timestamptz NOT NULL,
    beats_since    timestamptz NOT NULL DEFAULT clock_timestamp(), -- its heartbeats have come without a gap since then
    gone_at        timestamptz,                      -- it left, or it was declared dead; final
    draining_since timestamptz,                      -- it was told to stop: it claims nothing more, and finishes
    stopped_by     text,                             -- why it claims nothing for now: a stable code
    stopped_since  timestamptz,
    CHECK ((stopped_by IS NULL) = (stopped_since IS NULL))
) WITH (fillfactor = 10);
CREATE INDEX worker_present ON worker (worker_id) WHERE gone_at IS NULL;

-- A photo that is paid for and not settled. worker_id 0: nobody has it, it waits to be adopted.
-- Rows are changed by their place (ctid). Whoever changes a row that a worker has must hold that worker's lease, and
-- must change the worker or the attempt: a settlement takes a row that has moved for somebody else's.
CREATE TABLE in_flight (
    job_id          bigint PRIMARY KEY,
    organisation_id bigint NOT NULL,
    queue_id        bigint NOT NULL,
    run_id          bigint NOT NULL,
    photo_id        uuid NOT NULL,
    worker_id       bigint NOT NULL,
    attempt         integer NOT NULL,                -- the fence: it grows by one with every new owner
    crashes         smallint NOT NULL DEFAULT 0,     -- attempts that panicked, or whose child or worker died
    retries         smallint NOT NULL DEFAULT 0,     -- transient troubles
    since           timestamptz NOT NULL,            -- this owner has had it since
    due_at          timestamptz,                     -- not to be adopted before
    version         integer NOT NULL DEFAULT 0,      -- of the photo, when it was claimed
    CHECK ((worker_id = 0) = (due_at IS NOT NULL))
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 5000, autovacuum_vacuum_insert_threshold = -1,
        autovacuum_vacuum_cost_delay = 0);
CREATE INDEX in_flight_owner ON in_flight (worker_id, due_at);
-- What waits to be adopted. A photo that a worker has is in none of these, so claim and settle do not write them.
CREATE INDEX in_flight_clean ON in_flight (organisation_id, due_at) WHERE worker_id = 0 AND crashes < 2;
CREATE INDEX in_flight_suspect ON in_flight (organisation_id, due_at) WHERE worker_id = 0 AND crashes > 1;
CREATE INDEX in_flight_crashes ON in_flight (crashes, due_at) WHERE worker_id = 0 AND crashes > 1;

-- An attempt that ended without an outcome.
CREATE TABLE attempt (
    job_id     bigint NOT NULL,
    number     integer NOT NULL,
    worker_id  bigint NOT NULL,
    started_at timestamptz NOT NULL,
    ended_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended      text NOT NULL CHECK (ended IN ('handed_back', 'retry', 'crash', 'worker_gone')),
    reason     text,
    PRIMARY KEY (job_id, number)
);

-- processed: the credit is spent. In all other states it was refunded. undecided: the work was done, and found no
-- answer; this is no failure, and what was found is kept. duplicate: the same content was charged before, under another
-- key.
CREATE TYPE outcome_state AS ENUM ('processed', 'undecided', 'duplicate', 'failed', 'quarantined');

-- How a job ended: written by the transaction that closes its reservation.
CREATE TABLE outcome (
    job_id     bigint PRIMARY KEY,
    queue_id   bigint NOT NULL,
    photo_id   uuid NOT NULL,
    run_id     bigint NOT NULL,
    state      outcome_state NOT NULL,
    reason     text CHECK (reason ~ '^[a-z][a-z_]{0,39}$'), -- a stable code
    detail     text CHECK (length(detail) <= 500),
    attempt    integer NOT NULL,
    worker_id  bigint NOT NULL,
    started_at timestamptz NOT NULL,
    settled_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    version    integer NOT NULL DEFAULT 0,           -- of the photo, when it was claimed
    same_as    bigint,                               -- of a duplicate: the job that was charged for the content
    CHECK ((state = 'processed') = (reason IS NULL)),
    CHECK ((state = 'duplicate') = (same_as IS NOT NULL))
);
-- A photo is charged at most once for an operation, whatever the code does; again only if its file has changed.
CREATE UNIQUE INDEX outcome_charged_once ON outcome (photo_id, queue_id, version) WHERE state = 'processed';
CREATE INDEX outcome_failures ON outcome (queue_id, reason) WHERE state <> 'processed';
-- Refunds are looked up by time.
CREATE INDEX outcome_refunded_at ON outcome (settled_at) WHERE state <> 'processed';

-- The contents that were charged (functions/content.sql). Nobody reads them but the gate.
CREATE TABLE content (
    queue_id bigint NOT NULL,
    digest   uuid NOT NULL,                          -- the first 16 bytes of its SHA-256
    job_id   bigint NOT NULL,
    PRIMARY KEY (queue_id, digest)
);

-- What happened to the queues of an event, and by whose doing: functions/timeline.sql. The rows are written in the
-- transactions that cause them, and then stay, also those of deleted events.
CREATE TYPE timeline_kind AS ENUM ('queued', 'started', 'finished', 'drained', 'paused', 'resumed', 'held', 'lifted',
    'deleted', 'budget', 'cancelled', 'first', 'undone', 'class', 'pace', 'order', 'weight');
CREATE TYPE timeline_cause AS ENUM ('spent', 'adjustment', 'top_up', 'refund', 'lift', 'expiry', 'budget');

CREATE TABLE timeline (
    entry_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL,
    -- NULL: all events of the organisation. No reference: whoever has an account waits for no event.
    event_id        bigint,
    operation       operation,                       -- NULL: both
    at              timestamptz NOT NULL DEFAULT clock_timestamp(),
    kind            timeline_kind NOT NULL,
    actor           text CHECK (length(actor) BETWEEN 1 AND 200), -- NULL: nobody, it came about by itself
    cause           timeline_cause,
    -- Of queued, started, finished, cancelled, first and undone the run; of held, lifted and deleted the hold; of
    -- paused and resumed what caused it: a transaction of the ledger, for a lift and an expiry the hold, for a budget
    -- its change (budget_change).
    reference       bigint,
    photos          integer CHECK (photos > 0),      -- that were queued, are finished, taken back, or first
    decided         jsonb,                           -- of class, pace, order and weight: what counts from then on
    CHECK ((operation IS NULL) = (kind IN ('budget', 'class', 'pace', 'order', 'weight'))),
    CHECK ((decided IS NULL) = (kind NOT IN ('class', 'pace', 'order', 'weight'))),
    CHECK (CASE WHEN kind IN ('order', 'weight') THEN event_id IS NULL ELSE event_id IS NOT NULL OR kind = 'pace' END),
    CHECK (cause IS NULL OR kind IN ('paused', 'resumed', 'lifted')),
    CHECK ((kind IN ('queued', 'finished', 'cancelled', 'first')) = (photos IS NOT NULL))
);
CREATE INDEX timeline_of_event ON timeline (event_id, entry_id) WHERE event_id IS NOT NULL;
CREATE INDEX timeline_of_all_events ON timeline (organisation_id, entry_id, at) WHERE event_id IS NULL;
CREATE INDEX timeline_pauses ON timeline (event_id, operation, entry_id) WHERE kind IN ('paused', 'resumed');
-- A run begins once. It ends once with so many photos: if skipped photos are put back, it ends again with more.
CREATE UNIQUE INDEX timeline_run_started ON timeline (reference) WHERE kind = 'started';
CREATE UNIQUE INDEX timeline_run_finished ON timeline (reference, photos) WHERE kind = 'finished';

-- Why an organisation's queues are to be resumed that were locked when credit came (account.resume_due).
CREATE TABLE resume_cause (
    organisation_id bigint PRIMARY KEY REFERENCES account,
    cause           timeline_cause NOT NULL,
    reference       bigint
);

-- Photos that are queued at a later time: functions/schedules.sql.
CREATE TYPE schedule_end AS ENUM ('done', 'cancelled', 'refused');
CREATE TYPE operations AS ENUM ('photo_processing', 'ai_rotation', 'both');

CREATE TABLE schedule (
    schedule_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES organisation,
    event_id        bigint NOT NULL,                 -- no reference: a pipeline would keep the event locked
    operation       operations NOT NULL,             -- both: AI rotation first
    due_at          timestamptz NOT NULL,
    asked           bytea,                           -- a hash of what was asked for; NULL: all that the event has then
    photos          integer NOT NULL DEFAULT 0,      -- in its parts, as they were asked for
    queued          integer NOT NULL DEFAULT 0,      -- so far; of both operations, a photo counts twice
    reached         text NOT NULL DEFAULT '',        -- the last key that was queued of all photos
    urgent          boolean NOT NULL DEFAULT false,  -- its photos are claimed before the others of the event
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    pipeline_id     bigint,                          -- which pipeline asked for it
    created_at      timestamptz NOT NULL DEFAULT clock_timestamp(),
    trouble         text CHECK (length(trouble) <= 500), -- why the next part could not be queued
    tried_at        timestamptz,                     -- when that was tried
    ended_at        timestamptz,
    ended           schedule_end,
    ended_by        text,                            -- who cancelled it, or the reason of a refusal
    CHECK ((ended_at IS NULL) = (ended IS NULL) AND (ended IS NULL) = (ended_by IS NULL)),
    CHECK ((trouble IS NULL) = (tried_at IS NULL))
);
CREATE INDEX schedule_due ON schedule (organisation_id, due_at, schedule_id) WHERE ended_at IS NULL;
CREATE INDEX schedule_of_event ON schedule (event_id, schedule_id);

-- At most 10,000 photos of a schedule: what one transaction queues. The row is deleted by that transaction.
CREATE TABLE schedule_part (
    part_id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    schedule_id bigint NOT NULL REFERENCES schedule,
    keys        text[] NOT NULL CHECK (cardinality(keys) BETWEEN 1 AND 10000),
    payloads    jsonb[] CHECK (cardinality(payloads) = cardinality(keys))
);
CREATE INDEX schedule_part_of ON schedule_part (schedule_id, part_id);

GRANT SELECT ON run, job, follow_up, stretch, undo, worker, in_flight, attempt, outcome, timeline, schedule,
    schedule_part
TO photogate_app;
