-- Settle: a reservation is closed, by a commit or a refund; or it is given back unsettled, and stays open.
--
-- The fence is the predicate of the DELETE: (job, attempt, worker). A late worker deletes nothing, so it changes
-- nothing.
-- Lock order: the worker's lease (KEY SHARE), then its in_flight rows, then accounts in id order, then usage. Taking
-- in_flight before the account is safe only as long as a claim merely inserts new in_flight rows, and nobody who holds
-- an account waits for one.
-- A refund is credit too: it resumes the organisation's queues, in the same transaction.

-- Closes reservations whose in_flight row is still (job, attempt, p_fence): a commit for a processed photo, a refund
-- for any other. Every other row is left alone, and is missing from the answer. p_fence is the worker that the
-- in_flight row must name (0: nobody). p_by is the worker that is written into the outcome and the ledger.
-- enable_seqscan = off: as in claim.sql, and for the same table.
CREATE FUNCTION close_reservations(p_fence bigint, p_by bigint, p_jobs bigint[], p_attempts integer[],
    p_states outcome_state[], p_reasons text[], p_details text[], OUT r_settled bigint[], OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_rows in_flight[]; v_n bigint[]; v_organisations bigint[]; v_back bigint[]; v_at timestamptz[]; v_ends timestamptz;
BEGIN
    r_resumed := false;
    -- The fence: a late worker deletes nothing, so it pays nothing.
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_jobs, p_attempts) WITH ORDINALITY u (job_id, attempt, n) ORDER BY job_id),
    landed AS (
        DELETE FROM in_flight f USING asked a
        WHERE f.job_id = a.job_id AND f.attempt = a.attempt AND f.worker_id = p_fence
        RETURNING f AS flight, f.job_id, f.organisation_id, a.n)
    SELECT array_agg(flight ORDER BY job_id), array_agg(n ORDER BY job_id), array_agg(job_id ORDER BY job_id),
           array_agg(DISTINCT organisation_id)
    INTO v_rows, v_n, r_settled, v_organisations FROM landed;
    IF r_settled IS NULL THEN
        r_settled := '{}';
        RETURN;
    END IF;
    SELECT array_agg(organisation_id), array_agg(greatest(clock(), moved_at)), min(month_ends_at)
    INTO v_organisations, v_at, v_ends FROM (
        SELECT organisation_id, moved_at, month_ends_at FROM account WHERE organisation_id = ANY (v_organisations)
        ORDER BY organisation_id FOR NO KEY UPDATE) a;
    IF v_ends <= ANY (v_at) THEN PERFORM open_months(v_organisations, v_at); END IF;
    -- A later statement than the lock, so that it sees the account as it was locked. Usage comes after accounts.
    WITH closed AS MATERIALIZED (
        -- The rows that were deleted, each with what the caller says of it.
        SELECT f.*, p_states[u.n] AS state, p_reasons[u.n] AS reason, p_details[u.n] AS detail
        FROM unnest(v_n) WITH ORDINALITY u (n, i) CROSS JOIN LATERAL (SELECT (v_rows[u.i]).*) f),
    o AS MATERIALIZED (
        SELECT * FROM unnest(v_organisations, v_at) AS u (organisation_id, at)),
    told AS (
        INSERT INTO outcome (job_id, queue_id, photo_id, run_id, state, reason, detail, attempt, worker_id, started_at)
        SELECT job_id, queue_id, photo_id, run_id, state, reason, left(detail, 500), attempt, p_by, since FROM closed),
    booked AS (
        -- A trigger seals what is written here.
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id, at)
        SELECT c.job_id, 1, CASE WHEN c.state = 'processed' THEN 'commit' ELSE 'refund' END::movement,
               c.organisation_id,
               a.entries + row_number() OVER (PARTITION BY c.organisation_id ORDER BY c.job_id), 1, p_by, o.at
        FROM closed c JOIN account a USING (organisation_id) JOIN o USING (organisation_id)),
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
        FROM counted c JOIN o USING (organisation_id) WHERE a.organisation_id = c.organisation_id),
    summed AS (
        INSERT INTO usage AS u (run_id, month, organisation_id, queue_id, committed, refunded, first_refunded_at,
            last_refunded_at)
        SELECT c.run_id, a.month, c.organisation_id, c.queue_id, c.earned, c.back,
               CASE WHEN c.back > 0 THEN o.at END, CASE WHEN c.back > 0 THEN o.at END
        FROM (SELECT run_id, organisation_id, queue_id,
                     (count(*) FILTER (WHERE state = 'processed'))::integer AS earned,
                     (count(*) FILTER (WHERE state <> 'processed'))::integer AS back
              FROM closed GROUP BY run_id, organisation_id, queue_id) c
        JOIN account a USING (organisation_id) JOIN o USING (organisation_id)
        ON CONFLICT (run_id, month) DO UPDATE SET
            committed = u.committed + excluded.committed,
            refunded = u.refunded + excluded.refunded,
            first_refunded_at = coalesce(u.first_refunded_at, excluded.first_refunded_at),
            last_refunded_at = coalesce(excluded.last_refunded_at, u.last_refunded_at))
    SELECT array_agg(organisation_id) INTO v_back FROM counted WHERE n > earned;
    -- A refund is credit too.
    IF v_back IS NOT NULL THEN r_resumed := resume_queues(v_back); END IF;
END $$;

-- A worker settles what it has done. Returns the jobs that were its own to settle.
CREATE FUNCTION settle(p_worker bigint, p_jobs bigint[], p_attempts integer[], p_states outcome_state[],
    p_reasons text[], p_details text[], OUT r_settled bigint[], OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    -- The lease, not only the fence: a worker whose lease ran out changes nothing, even if nobody took its photos yet.
    PERFORM 1 FROM worker
    WHERE worker_id = p_worker AND gone_at IS NULL AND lease_until > clock_timestamp() FOR KEY SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'worker % has no lease', p_worker USING ERRCODE = 'PG001'; END IF;
    SELECT c.r_settled, c.r_resumed INTO r_settled, r_resumed
    FROM close_reservations(p_worker, p_worker, p_jobs, p_attempts, p_states, p_reasons, p_details) c;
END $$;
GRANT EXECUTE ON FUNCTION settle TO photogate_worker;

-- A worker gives jobs back under their reservations: unstarted ('handed_back'), to be tried again after a delay
-- ('retry'), or because the work itself crashed ('crash'). Returns those that were its own.
CREATE FUNCTION release(p_worker bigint, p_jobs bigint[], p_attempts integer[], p_ends text[], p_reasons text[],
    p_delays interval[])
RETURNS SETOF bigint
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_jobs, p_attempts, p_ends, p_reasons, p_delays) u (job_id, attempt, ended, reason, delay)
        ORDER BY job_id),
    given AS (
        UPDATE in_flight f SET
            worker_id = 0,
            due_at = clock_timestamp() + a.delay,
            since = f.since,
            retries = f.retries + (a.ended = 'retry')::int,
            crashes = f.crashes + (a.ended = 'crash')::int
        FROM asked a WHERE f.job_id = a.job_id AND f.attempt = a.attempt AND f.worker_id = p_worker
        RETURNING f.job_id, f.attempt, f.since, a.ended, a.reason)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended, reason)
    SELECT job_id, attempt, p_worker, since, ended, reason FROM given RETURNING job_id;
$$;
GRANT EXECUTE ON FUNCTION release TO photogate_worker;
