-- Old events whose rows were packed into the photo store (functions/archive.sql).

-- packing: its rows are read, and written into the store. deleting: they are all there, and the rows of the database
-- are deleted. archived: they are gone. restoring: they are written again. restored and stopped: the rows are those of
-- the database, and the files are not needed any more. giving_up: its files are lost or damaged, so nothing of it is
-- restored, and what is left is deleted. given_up: that is done, for ever.
CREATE TYPE archive_state AS ENUM
    ('packing', 'deleting', 'archived', 'restoring', 'restored', 'stopped', 'giving_up', 'given_up');

CREATE TABLE archive (
    archive_id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    event_id        bigint NOT NULL REFERENCES event,
    organisation_id bigint NOT NULL REFERENCES organisation,
    state           archive_state NOT NULL DEFAULT 'packing',
    -- Names its directory in the store. It is random: no other database's archive has it.
    directory       uuid NOT NULL UNIQUE DEFAULT gen_random_uuid(),
    actor           text NOT NULL CHECK (length(actor) BETWEEN 1 AND 200),
    began_at        timestamptz NOT NULL DEFAULT clock_timestamp(),
    erasures        uuid[] NOT NULL,                 -- that had been made before: what it has is without them
    taken_until     timestamptz,                     -- a process works on it now
    trouble         text CHECK (length(trouble) <= 500), -- why it could not go on
    -- How far it is packed: photos come first, by their keys, then contents.
    stage           text NOT NULL DEFAULT 'photos' CHECK (stage IN ('photos', 'contents', 'packed')),
    reached         text NOT NULL DEFAULT '',
    -- SHA-256 of the manifest, which names every part. With it, a changed archive is found.
    manifest        bytea CHECK (octet_length(manifest) = 32),
    archived_at     timestamptz,
    deleted_to      text NOT NULL DEFAULT '',        -- the last key whose rows were deleted
    verified_at     timestamptz,                     -- when it was last read as a whole, and compared
    damage          text CHECK (length(damage) <= 500), -- what was wrong then; NULL: nothing
    restored_by     text CHECK (length(restored_by) BETWEEN 1 AND 200),
    restored_part   integer NOT NULL DEFAULT 1,      -- the part that is written again, and how many of its lines are
    restored_lines  integer NOT NULL DEFAULT 0,
    given_up_at     timestamptz,
    given_up_by     text CHECK (length(given_up_by) BETWEEN 1 AND 200),
    given_up_why    text CHECK (length(given_up_why) BETWEEN 1 AND 1000),
    ended_at        timestamptz,
    files_gone_at   timestamptz,
    CHECK ((manifest IS NULL) = (archived_at IS NULL)),
    CHECK ((state IN ('packing', 'stopped')) = (manifest IS NULL)),
    CHECK (CASE WHEN state IN ('restoring', 'restored') THEN restored_by IS NOT NULL
                WHEN state NOT IN ('giving_up', 'given_up') THEN restored_by IS NULL END),
    CHECK ((state IN ('giving_up', 'given_up')) = (given_up_at IS NOT NULL)),
    CHECK (num_nonnulls(given_up_at, given_up_by, given_up_why) IN (0, 3)),
    CHECK ((state IN ('restored', 'stopped', 'given_up')) = (ended_at IS NOT NULL)),
    CHECK (files_gone_at IS NULL OR ended_at IS NOT NULL)
);
-- An event is archived once; and not again, if its archive was given up.
CREATE UNIQUE INDEX archive_standing ON archive (event_id) WHERE state NOT IN ('restored', 'stopped');
CREATE INDEX archive_of_event ON archive (event_id, archive_id);
CREATE INDEX archive_of_organisation ON archive (organisation_id, archive_id);
CREATE INDEX archive_to_do ON archive (archive_id) WHERE state IN ('packing', 'deleting', 'restoring', 'giving_up');
CREATE INDEX archive_files ON archive (ended_at) WHERE files_gone_at IS NULL AND ended_at IS NOT NULL;

-- A file of an archive: lines of JSON, one for each photo, or for each content. It is written once.
CREATE TABLE archive_part (
    archive_id bigint NOT NULL REFERENCES archive,
    part       integer NOT NULL CHECK (part > 0),
    stage      text NOT NULL CHECK (stage IN ('photos', 'contents')),
    first_key  text NOT NULL,
    last_key   text NOT NULL,
    lines      integer NOT NULL CHECK (lines > 0),
    jobs       bigint NOT NULL CHECK (jobs >= 0),
    committed  bigint NOT NULL CHECK (committed >= 0),
    refunded   bigint NOT NULL CHECK (refunded >= 0),
    text_bytes bigint NOT NULL CHECK (text_bytes > 0),
    bytes      bigint NOT NULL CHECK (bytes > 0),
    sha256     bytea NOT NULL CHECK (octet_length(sha256) = 32),
    CHECK (committed + refunded <= jobs),
    PRIMARY KEY (archive_id, part)
);

-- Which jobs' outcomes are in an archive, and whether each was committed: so every entry of the ledger still has the
-- outcome that it stands for, one by one. Neighbours with the same end are one row.
CREATE TABLE archive_jobs (
    organisation_id bigint NOT NULL,
    from_job        bigint NOT NULL,
    to_job          bigint NOT NULL,
    committed       boolean NOT NULL,
    archive_id      bigint NOT NULL REFERENCES archive,
    CHECK (from_job <= to_job),
    PRIMARY KEY (organisation_id, from_job)
);
CREATE INDEX archive_jobs_of_archive ON archive_jobs (archive_id);

-- The counts of a queue whose rows are in an archive, or on their way out of or into the database. While it has a row
-- here, its jobs and outcomes are those of the archive.
CREATE TABLE archive_queue (
    queue_id   bigint PRIMARY KEY REFERENCES queue,
    archive_id bigint NOT NULL REFERENCES archive,
    jobs       bigint NOT NULL,
    committed  bigint NOT NULL,
    refunded   bigint NOT NULL,
    undecided  bigint NOT NULL,
    duplicates bigint NOT NULL,
    -- The refunds that stand: without those of photos that were queued again (standing_refunds).
    standing_undecided  bigint NOT NULL,
    standing_duplicates bigint NOT NULL,
    standing_failed     bigint NOT NULL
);

GRANT SELECT ON archive, archive_part, archive_jobs, archive_queue TO photogate_app;
-- The check of the books.
GRANT SELECT ON archive_jobs, archive_queue TO photogate_worker;

DO $$
DECLARE v_table text; v_mine text;
BEGIN
    FOR v_table, v_mine IN VALUES
        ('archive',       $mine$organisation_id =
            (SELECT nullif(current_setting('photogate.organisation', true), '')::bigint)$mine$),
        ('archive_jobs',  $mine$organisation_id =
            (SELECT nullif(current_setting('photogate.organisation', true), '')::bigint)$mine$),
        ('archive_part',  'EXISTS (SELECT FROM archive a WHERE a.archive_id = archive_part.archive_id)'),
        ('archive_queue', 'EXISTS (SELECT FROM queue q WHERE q.queue_id = archive_queue.queue_id)')
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY all_rows ON %I TO photogate_worker USING (true) WITH CHECK (true)', v_table);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR SELECT TO photogate_organisation USING (%s)', v_table, v_mine);
        EXECUTE format('GRANT SELECT ON %I TO photogate_organisation', v_table);
    END LOOP;
END $$;
