-- Settle: a reservation is closed, by a commit or a refund; or it is given back unsettled, and stays open.
--
-- The fence is the predicate of the DELETE: (job, attempt, worker). A late worker deletes nothing, so it changes
-- nothing.
-- Lock order: the worker's lease (KEY SHARE), then its in_flight rows, then accounts in id order, then usage. Taking
-- in_flight before the account is safe only as long as a claim merely inserts new in_flight rows, and nobody who holds
-- an account waits for one.
-- A refund is credit too: it resumes the organisation's queues, in the same transaction, without waiting for them.

-- Where the row of a job in flight is. A join to in_flight by job_id may be planned, while nothing is in flight, as a
-- read of the whole index; and the stored plan stays when there is much in flight, or an old snapshot keeps what was.
CREATE FUNCTION flight_of(p_job bigint) RETURNS SETOF tid
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT f.ctid FROM in_flight f WHERE f.job_id BETWEEN p_job AND p_job LIMIT 1
$$;

-- Closes reservations whose in_flight row is still (job, attempt, p_fence): a commit for a processed photo, a refund
-- for any other. Every other row is left alone, and is missing from the answer. p_contents are the SHA-256 of the
-- photos, where they are known: a processed photo whose content was charged before becomes a duplicate (r_duplicates),
-- and is refunded. p_fence is the worker that the
-- in_flight row must name (0: nobody). p_by is the worker that is written into the outcome and the ledger.
-- enable_seqscan = off: as in claim.sql, and for the same table.
CREATE FUNCTION close_reservations(p_fence bigint, p_by bigint, p_jobs bigint[], p_attempts integer[],
    p_states outcome_state[], p_reasons text[], p_details text[], p_contents bytea[] DEFAULT NULL,
    OUT r_settled bigint[], OUT r_resumed boolean, OUT r_duplicates bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_is_balanced boolean; v_flights in_flight[]; v_n bigint[]; v_organisations bigint[]; v_back bigint[];
    -- These go together: one element for each duplicate, if there are some.
    v_duplicates bigint[]; v_original bigint[];
    -- These go together: one element for each account that is locked.
    v_organisation bigint[]; v_row tid[]; v_entries bigint[]; v_day date[]; v_at timestamptz[];
    v_is_over boolean; v_tells boolean;
BEGIN
    r_resumed := false;
    r_duplicates := '{}';
    -- The fence: a late worker deletes nothing, so it pays nothing.
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_jobs, p_attempts) WITH ORDINALITY u (job_id, attempt, n) ORDER BY job_id),
    landed AS (
        DELETE FROM in_flight f USING asked a CROSS JOIN LATERAL flight_of(a.job_id) i (row)
        WHERE f.ctid = i.row AND f.attempt = a.attempt AND f.worker_id + 0 = p_fence
        RETURNING f AS flight, f.job_id, f.organisation_id, a.n)
    SELECT array_agg(flight ORDER BY job_id), array_agg(n ORDER BY job_id), array_agg(job_id ORDER BY job_id),
           array_agg(DISTINCT organisation_id)
    INTO v_flights, v_n, r_settled, v_organisations FROM landed;
    IF r_settled IS NULL THEN
        r_settled := '{}';
        RETURN;
    END IF;
    LOOP
        SELECT array_agg(organisation_id), array_agg(row), array_agg(entries), array_agg(day), array_agg(at),
               bool_or(day_ends_at <= at), bool_or(tells_photos)
        INTO v_organisation, v_row, v_entries, v_day, v_at, v_is_over, v_tells
        FROM (SELECT n FROM unnest(v_organisations) n ORDER BY n) w
        CROSS JOIN LATERAL (
            -- From the end, as in claim.sql.
            SELECT a.ctid AS row, a.* FROM account a WHERE a.organisation_id BETWEEN w.n AND w.n
            ORDER BY a.organisation_id DESC LIMIT 1 FOR NO KEY UPDATE) a
        CROSS JOIN LATERAL (SELECT book_at(a.moved_at) AS at) b;
        EXIT WHEN NOT v_is_over;
        -- Then the accounts are read again: their rows have moved, and another day may have ended meanwhile.
        PERFORM open_days(v_organisation, v_at);
    END LOOP;
    IF v_tells THEN PERFORM tell_photos(v_flights); END IF;
    -- A later statement than the lock, so that it sees what was charged before. Most calls have no duplicates.
    IF p_contents IS NOT NULL THEN
        SELECT array_agg(d.r_job), array_agg(d.r_original) INTO v_duplicates, v_original
        FROM (SELECT array_agg(f.job_id) AS jobs, array_agg(f.queue_id) AS queues,
                     array_agg(p_contents[u.n]) AS contents
              FROM unnest(v_n) WITH ORDINALITY u (n, i) CROSS JOIN LATERAL (SELECT (v_flights[u.i]).*) f
              WHERE p_states[u.n] = 'processed' AND p_contents[u.n] IS NOT NULL) c
        CROSS JOIN LATERAL take_contents(c.jobs, c.queues, c.contents) d WHERE c.jobs IS NOT NULL;
        r_duplicates := coalesce(v_duplicates, '{}');
    END IF;
    -- A later statement than the lock, so that it sees the account as it was locked. Usage comes after accounts.
    WITH closed AS MATERIALIZED (
        -- The rows that were deleted, each with what the caller says of it, and what is known of its content.
        SELECT f.*, CASE WHEN o.original IS NULL THEN p_states[o.n] ELSE 'duplicate' END AS state,
               CASE WHEN o.original IS NULL THEN p_reasons[o.n] ELSE 'duplicate' END AS reason,
               p_details[o.n] AS detail, o.original
        FROM unnest(v_flights) WITH ORDINALITY f CROSS JOIN LATERAL (
            SELECT v_n[f.ordinality] AS n, v_original[array_position(v_duplicates, f.job_id)] AS original) o),
    o AS MATERIALIZED (
        SELECT * FROM unnest(v_organisation, v_row, v_entries, v_day, v_at)
            AS u (organisation_id, row, entries, day, at)),
    told AS (
        INSERT INTO outcome (job_id, queue_id, photo_id, run_id, state, reason, detail, attempt, worker_id, started_at,
            version, same_as)
        SELECT job_id, queue_id, photo_id, run_id, state, reason, left(detail, 500), attempt, p_by, since, version,
               original
        FROM closed),
    booked AS (
        -- A trigger seals what is written here.
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id, at)
        SELECT c.job_id, 1, CASE WHEN c.state = 'processed' THEN 'commit' ELSE 'refund' END::movement,
               c.organisation_id,
               o.entries + row_number() OVER (PARTITION BY c.organisation_id ORDER BY c.job_id), 1, p_by, o.at
        FROM closed c JOIN o USING (organisation_id)),
    counted AS (
        SELECT organisation_id, count(*) AS n, count(*) FILTER (WHERE state = 'processed') AS earned
        FROM closed GROUP BY organisation_id),
    balanced AS (
        UPDATE account a SET
            reserved = a.reserved - c.n,
            spent = a.spent + c.earned,
            available = a.available + (c.n - c.earned),
            entries = a.entries + c.n,
            moved_at = o.at
        FROM counted c JOIN o USING (organisation_id) WHERE a.ctid = o.row
        RETURNING a.organisation_id),
    runs AS MATERIALIZED (
        -- What comes of each run, and its row of this day, if it has one. The account's lock protects it.
        SELECT c.*, o.day, o.at, CASE WHEN c.back > 0 THEN o.at END AS back_at, CASE WHEN c.back > 0 THEN
                   o.entries + (sum(c.earned + c.back) OVER (PARTITION BY organisation_id))::bigint END AS back_entry,
               u.row
        FROM (SELECT run_id, organisation_id, queue_id,
                     (count(*) FILTER (WHERE state = 'processed'))::integer AS earned,
                     (count(*) FILTER (WHERE state <> 'processed'))::integer AS back,
                     (count(*) FILTER (WHERE state = 'undecided'))::integer AS undecided,
                     (count(*) FILTER (WHERE state = 'duplicate'))::integer AS duplicates
              FROM closed GROUP BY run_id, organisation_id, queue_id) c
        JOIN o USING (organisation_id)
        LEFT JOIN LATERAL (
            SELECT u.ctid AS row FROM usage u WHERE u.run_id BETWEEN c.run_id AND c.run_id AND u.day = o.day
            ORDER BY u.run_id DESC, u.day DESC LIMIT 1) u ON true),
    summed AS (
        UPDATE usage u SET
            committed = u.committed + r.earned,
            refunded = u.refunded + r.back,
            undecided = u.undecided + r.undecided,
            duplicates = u.duplicates + r.duplicates,
            first_refunded_at = coalesce(u.first_refunded_at, r.back_at),
            last_refunded_at = coalesce(r.back_at, u.last_refunded_at),
            refunded_entry = coalesce(r.back_entry, u.refunded_entry)
        FROM runs r WHERE u.ctid = r.row),
    begun AS (
        INSERT INTO usage (run_id, day, organisation_id, queue_id, committed, refunded, undecided, duplicates,
            first_refunded_at, last_refunded_at, refunded_entry)
        SELECT run_id, day, organisation_id, queue_id, earned, back, undecided, duplicates, back_at, back_at,
               back_entry
        FROM runs WHERE row IS NULL),
    tallied AS (
        -- The account's lock protects this row: a settlement does not lock queues.
        UPDATE queue_settled s SET
            committed = s.committed + c.earned,
            refunded = s.refunded + c.back,
            undecided = s.undecided + c.undecided,
            duplicates = s.duplicates + c.duplicates
        FROM (SELECT queue_id, sum(earned) AS earned, sum(back) AS back, sum(undecided) AS undecided,
                     sum(duplicates) AS duplicates
              FROM runs GROUP BY queue_id) c
        CROSS JOIN LATERAL (
            SELECT x.ctid AS row FROM queue_settled x WHERE x.queue_id BETWEEN c.queue_id AND c.queue_id
            ORDER BY x.queue_id DESC LIMIT 1) x
        WHERE s.ctid = x.row)
    SELECT array_agg(organisation_id) FILTER (WHERE n > earned), count(*) = (SELECT count(*) FROM balanced)
    INTO v_back, v_is_balanced FROM counted;
    IF NOT v_is_balanced THEN
        RAISE EXCEPTION 'the accounts did not move with this settlement' USING ERRCODE = 'assert_failure';
    END IF;
    -- A refund is credit too.
    IF v_back IS NOT NULL THEN r_resumed := resume_queues(v_back, 'refund'); END IF;
END $$;

-- A worker settles what it has done. Returns the jobs that were its own to settle, and which of these are duplicates.
CREATE FUNCTION settle(p_key uuid, p_jobs bigint[], p_attempts integer[], p_states outcome_state[],
    p_reasons text[], p_details text[], p_contents bytea[] DEFAULT NULL, OUT r_settled bigint[],
    OUT r_resumed boolean, OUT r_duplicates bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_worker bigint;
BEGIN
    -- The lease, not only the fence: a worker whose lease ran out changes nothing, even if nobody took its photos yet.
    SELECT leased_worker(p_key) INTO v_worker;
    SELECT c.r_settled, c.r_resumed, c.r_duplicates INTO r_settled, r_resumed, r_duplicates
    FROM close_reservations(v_worker, v_worker, p_jobs, p_attempts, p_states, p_reasons, p_details, p_contents) c;
END $$;
GRANT EXECUTE ON FUNCTION settle TO photogate_worker;

-- A worker gives jobs back under their reservations: unstarted ('handed_back'), to be tried again after a delay
-- ('retry'), or because the work itself crashed ('crash'). Returns those that were its own. A lease that has run out is
-- no obstacle, as long as nobody has declared the worker dead: see adopt.
CREATE FUNCTION release(p_key uuid, p_jobs bigint[], p_attempts integer[], p_ends text[], p_reasons text[],
    p_delays interval[])
RETURNS SETOF bigint
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    WITH lease AS MATERIALIZED (
        SELECT w.worker_id FROM present_worker(p_key) w (worker_id) WHERE w.worker_id IS NOT NULL),
    asked AS MATERIALIZED (
        SELECT * FROM unnest(p_jobs, p_attempts, p_ends, p_reasons, p_delays) u (job_id, attempt, ended, reason, delay)
        ORDER BY job_id),
    given AS (
        UPDATE in_flight f SET
            worker_id = 0,
            due_at = clock_timestamp() + a.delay,
            since = f.since,
            retries = f.retries + (a.ended = 'retry')::int,
            crashes = f.crashes + (a.ended = 'crash')::int
        FROM lease, asked a CROSS JOIN LATERAL flight_of(a.job_id) i (row)
        WHERE f.ctid = i.row AND f.attempt = a.attempt AND f.worker_id + 0 = lease.worker_id
        RETURNING f.job_id, f.attempt, lease.worker_id, f.since, a.ended, a.reason)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended, reason)
    SELECT job_id, attempt, worker_id, since, ended, reason FROM given RETURNING job_id;
$$;
GRANT EXECUTE ON FUNCTION release TO photogate_worker;
