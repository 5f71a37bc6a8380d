-- An event belongs to an organisation, and has one queue for each operation.

CREATE TYPE operation AS ENUM ('photo_processing', 'ai_rotation');

CREATE TABLE event (
    event_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES organisation,
    name            text NOT NULL CHECK (length(btrim(name)) BETWEEN 1 AND 200),
    bib_search      boolean NOT NULL DEFAULT true,
    face_search     boolean NOT NULL DEFAULT false, -- embeddings are biometric data: only where asked for
    created_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX event_organisation ON event (organisation_id, event_id);

-- A photo is a key in the store, within an event. Its id grows with time, so neighbours in the queue are neighbours here.
CREATE TABLE photo (
    photo_id   uuid PRIMARY KEY,
    event_id   bigint NOT NULL,
    key        text NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 1024),
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (event_id, key)
);

-- A queue is a log with two offsets. Positions in (head, tail] wait; those up to head were claimed.
CREATE TABLE queue (
    queue_id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    organisation_id bigint NOT NULL REFERENCES account,
    event_id        bigint NOT NULL REFERENCES event,
    operation       operation NOT NULL,
    head            bigint NOT NULL DEFAULT 0,
    tail            bigint NOT NULL DEFAULT 0,
    -- Why nothing is claimed here: 1 drained, 2 no credit, 4 held. Each bit has one writer: 1 enqueue and claim,
    -- 2 whoever holds the account's row lock, 4 hold and lift. Clearing one never clears another.
    blocked         smallint NOT NULL DEFAULT 1,
    no_credit_since timestamptz,
    CHECK (head BETWEEN 0 AND tail),
    CHECK ((blocked & 1 = 1) = (head = tail)),
    CHECK ((blocked & 2 = 2) = (no_credit_since IS NOT NULL)),
    UNIQUE (event_id, operation)
) WITH (fillfactor = 25, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 500, autovacuum_vacuum_cost_delay = 0);

-- Partial, so that ten thousand paused or drained queues cost a claim nothing.
CREATE INDEX queue_runnable ON queue (organisation_id, queue_id) WHERE blocked = 0;
CREATE INDEX queue_without_credit ON queue (organisation_id) WHERE blocked & 2 <> 0;
CREATE INDEX queue_of_organisation ON queue (organisation_id);

-- A person, or maintenance, keeps a queue from running. Several may hold one queue; it runs when none does.
CREATE TABLE hold (
    hold_id   bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    queue_id  bigint NOT NULL REFERENCES queue,
    owner     text NOT NULL CHECK (length(owner) BETWEEN 1 AND 200),
    note      text NOT NULL DEFAULT '' CHECK (length(note) <= 1000),
    since     timestamptz NOT NULL DEFAULT now(),
    until     timestamptz,
    lifted_at timestamptz,
    lifted_by text,
    CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE INDEX hold_standing ON hold (queue_id) WHERE lifted_at IS NULL;
CREATE INDEX hold_expiry ON hold (until) WHERE lifted_at IS NULL;

GRANT SELECT ON event, photo, queue, hold TO photogate_app;
