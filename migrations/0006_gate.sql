-- The credit gate: every change of money is one call of one of these functions, and one transaction.
--
-- Lock order, everywhere: worker lease (KEY SHARE) -> accounts in id order -> queues -> runs -> jobs.
-- Enqueue takes only its queue. Settle and adopt take their in_flight rows before the account: safe only as long as a
-- claim merely inserts new in_flight rows, and nobody who holds an account waits for one. Keep it so.
-- Whoever changes credit, or a pause for want of credit, holds the account's row lock.
--
-- Errors: PG001 the worker's lease is gone · PG002 no such thing · PG003 an idempotency key came back with another
-- body · PG004 not enough credits · PG005 the ledger is append-only · PG006 a bad argument.

-- Credit came in or came back: lift the pauses that were for want of it, and only those.
-- The caller holds the account's lock and calls this as a later statement than the one that took it. As one statement
-- it strands paid work: under READ COMMITTED the snapshot is older than the lock, and a pause written in between is
-- not seen.
CREATE FUNCTION resume_queues(p_organisations bigint[]) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE queue SET blocked = (blocked & ~2)::smallint, no_credit_since = NULL
    WHERE organisation_id = ANY (p_organisations) AND blocked & 2 <> 0;
    RETURN FOUND;
END $$;

-- The account is empty: pause what would run. The caller holds the account's lock.
CREATE FUNCTION pause_queues(p_organisations bigint[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE queue SET blocked = (blocked | 2)::smallint, no_credit_since = clock_timestamp()
    WHERE organisation_id = ANY (p_organisations) AND blocked = 0;
END $$;

CREATE FUNCTION create_organisation(p_name text, p_time_zone text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_organisation bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = p_time_zone) THEN
        RAISE EXCEPTION 'no time zone "%"', p_time_zone USING ERRCODE = 'PG006';
    END IF;
    INSERT INTO organisation (name, time_zone) VALUES (p_name, p_time_zone) RETURNING organisation_id INTO v_organisation;
    INSERT INTO account (organisation_id) VALUES (v_organisation);
    RETURN v_organisation;
END $$;

CREATE FUNCTION create_event(p_organisation bigint, p_name text, p_bib_search boolean, p_face_search boolean) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_event bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM organisation WHERE organisation_id = p_organisation) THEN
        RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002';
    END IF;
    INSERT INTO event (organisation_id, name, bib_search, face_search)
    VALUES (p_organisation, p_name, p_bib_search, p_face_search) RETURNING event_id INTO v_event;
    INSERT INTO queue (organisation_id, event_id, operation)
    SELECT p_organisation, v_event, o FROM unnest(enum_range(NULL::operation)) o;
    RETURN v_event;
END $$;

-- Appends the photos that may be queued, in the order given, and writes the run. Returns how many were taken and why
-- the others were not. p_retry: take those whose latest job failed, and no others.
CREATE FUNCTION append_jobs(p_queue queue, p_photos uuid[], p_actor text, p_retry boolean, p_unknown integer,
    OUT r_run bigint, OUT r_queued integer, OUT r_repeated integer, OUT r_waiting integer, OUT r_processed integer,
    OUT r_failed integer, OUT r_never_failed integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_photo uuid[]; v_retry smallint[];
BEGIN
    -- The caller holds the queue's lock: whatever another enqueue of these photos did is committed and seen here.
    WITH asked AS (
        SELECT photo_id, min(n) AS n FROM unnest(p_photos) WITH ORDINALITY u (photo_id, n) GROUP BY photo_id),
    seen AS (
        SELECT a.photo_id, a.n, j.retry, o.state FROM asked a
        LEFT JOIN LATERAL (SELECT x.job_id, x.retry FROM job x WHERE x.photo_id = a.photo_id AND x.queue_id = p_queue.queue_id
                           ORDER BY x.retry DESC LIMIT 1) j ON true
        LEFT JOIN outcome o ON o.job_id = j.job_id),
    sorted AS (
        SELECT *, CASE WHEN p_retry THEN coalesce(state IN ('failed', 'quarantined'), false) ELSE retry IS NULL END AS take FROM seen)
    SELECT array_agg(photo_id ORDER BY n) FILTER (WHERE take),
           array_agg((coalesce(retry, -1) + 1)::smallint ORDER BY n) FILTER (WHERE take),
           cardinality(p_photos) - count(*),
           count(*) FILTER (WHERE NOT take AND retry IS NOT NULL AND state IS NULL),
           count(*) FILTER (WHERE NOT take AND state = 'processed'),
           count(*) FILTER (WHERE NOT take AND state IN ('failed', 'quarantined')),
           count(*) FILTER (WHERE NOT take AND retry IS NULL)
    INTO v_photo, v_retry, r_repeated, r_waiting, r_processed, r_failed, r_never_failed FROM sorted;
    r_queued := coalesce(cardinality(v_photo), 0);
    INSERT INTO run (organisation_id, event_id, queue_id, actor, retry, asked, queued, first_position)
    VALUES (p_queue.organisation_id, p_queue.event_id, p_queue.queue_id, p_actor, p_retry,
            cardinality(p_photos) + p_unknown, r_queued, p_queue.tail + 1)
    RETURNING run_id INTO r_run;
    IF r_queued > 0 THEN
        -- Dense: position order is commit order, and no position is ever skipped.
        INSERT INTO job (queue_id, position, photo_id, run_id, retry)
        SELECT p_queue.queue_id, p_queue.tail + n, photo_id, r_run, retry
        FROM unnest(v_photo, v_retry) WITH ORDINALITY u (photo_id, retry, n);
        UPDATE queue SET tail = tail + r_queued, blocked = (blocked & ~1)::smallint WHERE queue_id = p_queue.queue_id;
    END IF;
END $$;

-- Queues photos of an event. A photo that is queued, done or failed already is skipped, and counted.
-- p_ids are fresh ids for the photos that are new. r_woke: the queue was drained, somebody should be told.
CREATE FUNCTION enqueue(p_event bigint, p_operation operation, p_keys text[], p_ids uuid[], p_actor text,
    OUT r_run bigint, OUT r_queued integer, OUT r_repeated integer, OUT r_waiting integer, OUT r_processed integer,
    OUT r_failed integer, OUT r_available bigint, OUT r_ahead bigint, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_photos uuid[]; v_never integer;
BEGIN
    IF cardinality(p_keys) <> cardinality(p_ids) OR cardinality(p_keys) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call, and an id for each' USING ERRCODE = 'PG006';
    END IF;
    -- Two operations of one event may bring the same new photos at once: insert in one order, or they deadlock.
    INSERT INTO photo (photo_id, event_id, key)
    SELECT DISTINCT ON (key) id, p_event, key FROM unnest(p_ids, p_keys) u (id, key)
    WHERE EXISTS (SELECT FROM event WHERE event_id = p_event)
    ORDER BY key ON CONFLICT (event_id, key) DO NOTHING;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    SELECT array_agg(p.photo_id ORDER BY u.n) INTO v_photos
    FROM unnest(p_keys) WITH ORDINALITY u (key, n) JOIN photo p ON p.event_id = p_event AND p.key = u.key;
    SELECT * INTO r_run, r_queued, r_repeated, r_waiting, r_processed, r_failed, v_never
    FROM append_jobs(v_queue, coalesce(v_photos, '{}'), p_actor, false, 0);
    r_woke := v_queue.blocked & 1 = 1 AND r_queued > 0;
    -- Information for the caller, read without a lock: the next claim may change it.
    SELECT a.available, coalesce(sum(q.tail - q.head), 0) INTO r_available, r_ahead
    FROM account a LEFT JOIN queue q USING (organisation_id)
    WHERE a.organisation_id = v_queue.organisation_id GROUP BY a.available;
END $$;

-- Queues failed photos again, because a person asked. Each reserves anew when it is claimed.
CREATE FUNCTION retry(p_event bigint, p_operation operation, p_photos uuid[], p_actor text,
    OUT r_run bigint, OUT r_queued integer, OUT r_skipped integer, OUT r_available bigint, OUT r_ahead bigint, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_photos uuid[];
BEGIN
    IF cardinality(p_photos) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006';
    END IF;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    SELECT array_agg(p.photo_id ORDER BY u.n) INTO v_photos
    FROM unnest(p_photos) WITH ORDINALITY u (photo_id, n) JOIN photo p ON p.photo_id = u.photo_id AND p.event_id = p_event;
    SELECT x.r_run, x.r_queued INTO r_run, r_queued
    FROM append_jobs(v_queue, coalesce(v_photos, '{}'), p_actor, true, cardinality(p_photos) - coalesce(cardinality(v_photos), 0)) x;
    r_skipped := cardinality(p_photos) - r_queued;
    r_woke := v_queue.blocked & 1 = 1 AND r_queued > 0;
    SELECT a.available, coalesce(sum(q.tail - q.head), 0) INTO r_available, r_ahead
    FROM account a LEFT JOIN queue q USING (organisation_id)
    WHERE a.organisation_id = v_queue.organisation_id GROUP BY a.available;
END $$;

-- Brings credit in (or, for kind refund with a negative amount, takes it out). The same key again changes nothing.
CREATE FUNCTION top_up(p_organisation bigint, p_kind top_up_kind, p_amount bigint, p_actor text, p_note text, p_key text,
    OUT r_transaction bigint, OUT r_credited boolean, OUT r_available bigint, OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_entry bigint;
BEGIN
    r_credited := false;
    r_resumed := false;
    -- The account first, whatever comes: it is the lock order, and a replay reads a settled balance.
    SELECT available INTO r_available FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    INSERT INTO top_up (transaction_id, organisation_id, kind, amount, actor, note, idempotency_key)
    VALUES (nextval('transaction_id'), p_organisation, p_kind, p_amount, p_actor, p_note, p_key)
    ON CONFLICT (organisation_id, idempotency_key) DO NOTHING RETURNING transaction_id INTO r_transaction;
    IF r_transaction IS NULL THEN
        SELECT transaction_id INTO r_transaction FROM top_up
        WHERE organisation_id = p_organisation AND idempotency_key = p_key AND amount = p_amount AND kind = p_kind;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the idempotency key "%" was used for another top-up', p_key USING ERRCODE = 'PG003';
        END IF;
        RETURN;
    END IF;
    IF r_available + p_amount < 0 THEN
        RAISE EXCEPTION 'only % credits are available', r_available USING ERRCODE = 'PG004';
    END IF;
    UPDATE account SET funded = funded + p_amount, available = available + p_amount, entries = entries + 1
    WHERE organisation_id = p_organisation RETURNING entries, available INTO v_entry, r_available;
    INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount)
    VALUES (r_transaction, 0, 'top_up', p_organisation, v_entry, p_amount);
    r_credited := true;
    IF r_available > 0 THEN
        r_resumed := resume_queues(ARRAY[p_organisation]); -- a later statement: see there
    ELSE
        PERFORM pause_queues(ARRAY[p_organisation]);
    END IF;
END $$;

-- Takes up to p_n photos and with each a credit: the claim is the reservation. Fair over organisations from p_cursor on,
-- then over their queues. May answer with nothing although work is left (rows locked by others): ask again.
CREATE FUNCTION claim(p_worker bigint, p_n integer, p_cursor bigint, p_async_commit boolean)
RETURNS TABLE (r_job bigint, r_attempt integer, r_organisation bigint, r_event bigint, r_operation operation, r_photo uuid,
               r_key text, r_bib_search boolean, r_face_search boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    c_queues constant integer := 4;                        -- of an organisation, in one claim
    v_most   integer := least(p_n, 16);                    -- organisations, in one claim
    v_next   bigint[]; v_more bigint[]; v_zero bigint[];
    v_organisation bigint[]; v_available bigint[]; v_cursor bigint[]; v_entries bigint[]; v_quota bigint[]; v_queue bigint[];
BEGIN
    -- Whoever declares this worker dead cannot pass until we commit.
    PERFORM 1 FROM worker WHERE worker_id = p_worker AND gone_at IS NULL AND lease_until > clock_timestamp() FOR KEY SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'worker % has no lease', p_worker USING ERRCODE = 'PG001'; END IF;
    IF p_async_commit THEN
        -- Safe: the log is a prefix, so a settle that is durable implies that its claim is.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;

    -- 1. Whose turn it is: a skip scan of the partial index. Paused, drained and held queues are not in it.
    WITH RECURSIVE o (organisation_id) AS (
        (SELECT q.organisation_id FROM queue q WHERE q.blocked = 0 AND q.organisation_id > p_cursor ORDER BY q.organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT q.organisation_id FROM queue q WHERE q.blocked = 0 AND q.organisation_id > o.organisation_id
                ORDER BY q.organisation_id LIMIT 1) FROM o WHERE o.organisation_id IS NOT NULL)
    SELECT array_agg(organisation_id) INTO v_next FROM (SELECT organisation_id FROM o WHERE organisation_id IS NOT NULL LIMIT v_most) s;
    IF coalesce(cardinality(v_next), 0) < v_most AND p_cursor > 0 THEN
        WITH RECURSIVE o (organisation_id) AS (
            (SELECT q.organisation_id FROM queue q WHERE q.blocked = 0 AND q.organisation_id <= p_cursor ORDER BY q.organisation_id LIMIT 1)
            UNION ALL
            SELECT (SELECT q.organisation_id FROM queue q WHERE q.blocked = 0 AND q.organisation_id > o.organisation_id
                    AND q.organisation_id <= p_cursor ORDER BY q.organisation_id LIMIT 1) FROM o WHERE o.organisation_id IS NOT NULL)
        SELECT array_agg(organisation_id) INTO v_more
        FROM (SELECT organisation_id FROM o WHERE organisation_id IS NOT NULL LIMIT v_most - coalesce(cardinality(v_next), 0)) s;
        v_next := v_next || v_more;
    END IF;
    IF v_next IS NULL THEN RETURN; END IF;

    -- 2. Their accounts, in id order, without waiting; if all are busy, wait for the first.
    SELECT array_agg(organisation_id), array_agg(available), array_agg(queue_cursor), array_agg(entries)
    INTO v_organisation, v_available, v_cursor, v_entries FROM (
        SELECT * FROM account WHERE organisation_id = ANY (v_next) ORDER BY organisation_id FOR NO KEY UPDATE SKIP LOCKED) s;
    IF v_organisation IS NULL THEN
        SELECT array_agg(organisation_id), array_agg(available), array_agg(queue_cursor), array_agg(entries)
        INTO v_organisation, v_available, v_cursor, v_entries FROM (
            SELECT * FROM account WHERE organisation_id = v_next[1] FOR NO KEY UPDATE) s;
    END IF;

    -- 3. Each one's share of the batch, its queues in turn, and their locks. A statement of its own: the next one must
    -- see every job that was committed before the lock was ours, or a claim that meets an enqueue moves the offset over
    -- jobs that its snapshot does not have.
    SELECT array_agg(least(u.available, p_n / n + (i <= p_n % n)::int) ORDER BY u.organisation_id) INTO v_quota FROM (
        SELECT x.*, count(*) OVER () AS n, row_number() OVER (ORDER BY x.organisation_id) AS i
        FROM unnest(v_organisation, v_available) x (organisation_id, available)) u;
    SELECT array_agg(queue_id) INTO v_queue FROM (
        SELECT q.queue_id FROM unnest(v_organisation, v_quota, v_cursor) o (organisation_id, quota, cursor)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                (SELECT q.queue_id FROM queue q WHERE q.organisation_id = o.organisation_id AND q.blocked = 0 AND q.queue_id > o.cursor
                 ORDER BY q.queue_id LIMIT c_queues)
                UNION ALL
                (SELECT q.queue_id FROM queue q WHERE q.organisation_id = o.organisation_id AND q.blocked = 0 AND q.queue_id <= o.cursor
                 ORDER BY q.queue_id LIMIT c_queues)) w LIMIT least(c_queues, o.quota)) c
        JOIN queue q ON q.queue_id = c.queue_id AND q.blocked = 0
        FOR NO KEY UPDATE OF q SKIP LOCKED) s;

    -- 4. In one statement: move offsets, open reservations.
    RETURN QUERY
    WITH o AS MATERIALIZED (
        SELECT * FROM unnest(v_organisation, v_quota, v_entries) AS u (organisation_id, quota, entries)),
    wanted AS (
        SELECT o.organisation_id, o.quota, q.queue_id, q.event_id, q.operation, q.head, q.tail,
               least(q.tail - q.head, ceil(o.quota::numeric / count(*) OVER (PARTITION BY o.organisation_id))::bigint) AS want
        FROM queue q JOIN o USING (organisation_id) WHERE q.queue_id = ANY (v_queue)),
    taken AS MATERIALIZED (
        SELECT *, greatest(0, least(want, quota - (sum(want) OVER (PARTITION BY organisation_id ORDER BY queue_id) - want)))::bigint AS take
        FROM wanted),
    moved AS (
        UPDATE queue q SET head = t.head + t.take,
            blocked = CASE WHEN t.head + t.take = t.tail THEN (q.blocked | 1)::smallint ELSE q.blocked END
        FROM taken t WHERE q.queue_id = t.queue_id AND t.take > 0),
    jobs AS MATERIALIZED (
        SELECT j.job_id, j.photo_id, j.run_id, t.organisation_id, t.queue_id, t.event_id, t.operation
        FROM taken t CROSS JOIN LATERAL (
            SELECT * FROM job j WHERE j.queue_id = t.queue_id AND j.position > t.head AND j.position <= t.head + t.take
            ORDER BY j.position) j),
    flying AS (
        INSERT INTO in_flight (job_id, organisation_id, queue_id, run_id, photo_id, worker_id, attempt, since)
        SELECT job_id, organisation_id, queue_id, run_id, photo_id, p_worker, 1, clock_timestamp() FROM jobs),
    booked AS (
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id)
        SELECT j.job_id, 0, 'reserve', j.organisation_id,
               o.entries + row_number() OVER (PARTITION BY j.organisation_id ORDER BY j.job_id), 1, p_worker
        FROM jobs j JOIN o USING (organisation_id)),
    counted AS (SELECT organisation_id, count(*) AS n, max(queue_id) AS cursor FROM jobs GROUP BY organisation_id),
    charged AS (
        UPDATE account a SET available = a.available - c.n, reserved = a.reserved + c.n, entries = a.entries + c.n, queue_cursor = c.cursor
        FROM counted c WHERE a.organisation_id = c.organisation_id),
    used AS (
        UPDATE run r SET claimed = r.claimed + c.n, first_claimed_at = coalesce(r.first_claimed_at, now())
        FROM (SELECT run_id, count(*)::integer AS n FROM jobs GROUP BY run_id) c WHERE r.run_id = c.run_id)
    SELECT j.job_id, 1, j.organisation_id, j.event_id, j.operation, j.photo_id, p.key, e.bib_search, e.face_search
    FROM jobs j JOIN photo p USING (photo_id) JOIN event e ON e.event_id = j.event_id;

    -- 5. Still under the account's lock: who has spent the last credit is paused, in this same transaction.
    SELECT array_agg(organisation_id) INTO v_zero FROM account WHERE organisation_id = ANY (v_organisation) AND available = 0;
    IF v_zero IS NOT NULL THEN PERFORM pause_queues(v_zero); END IF;
END $$;

-- Closes reservations whose in_flight row is still (job, attempt, p_fence): commit for a processed photo, refund for
-- any other. Everything else is left alone, and missing from the answer. p_by stands in the books.
CREATE FUNCTION close_reservations(p_fence bigint, p_by bigint, p_jobs bigint[], p_attempts integer[], p_states outcome_state[],
    p_reasons text[], p_details text[], OUT r_settled bigint[], OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE v_rows in_flight[]; v_n bigint[]; v_organisations bigint[]; v_back bigint[];
BEGIN
    r_resumed := false;
    -- The fence: a late worker deletes nothing, so it pays nothing.
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_jobs, p_attempts) WITH ORDINALITY u (job_id, attempt, n) ORDER BY job_id),
    landed AS (
        DELETE FROM in_flight f USING asked a WHERE f.job_id = a.job_id AND f.attempt = a.attempt AND f.worker_id = p_fence
        RETURNING f AS flight, f.job_id, f.organisation_id, a.n)
    SELECT array_agg(flight ORDER BY job_id), array_agg(n ORDER BY job_id), array_agg(job_id ORDER BY job_id), array_agg(DISTINCT organisation_id)
    INTO v_rows, v_n, r_settled, v_organisations FROM landed;
    IF r_settled IS NULL THEN
        r_settled := '{}';
        RETURN;
    END IF;
    PERFORM 1 FROM account WHERE organisation_id = ANY (v_organisations) ORDER BY organisation_id FOR NO KEY UPDATE;
    -- A later statement than the lock, so that it sees the account as it was locked; runs come after accounts.
    WITH closed AS MATERIALIZED (
        SELECT f.*, p_states[u.n] AS state, p_reasons[u.n] AS reason, p_details[u.n] AS detail
        FROM unnest(v_n) WITH ORDINALITY u (n, i) CROSS JOIN LATERAL (SELECT (v_rows[u.i]).*) f),
    told AS (
        INSERT INTO outcome (job_id, queue_id, photo_id, run_id, state, reason, detail, attempt, worker_id, started_at)
        SELECT job_id, queue_id, photo_id, run_id, state, reason, left(detail, 500), attempt, p_by, since FROM closed),
    booked AS (
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id)
        SELECT c.job_id, 1, CASE WHEN c.state = 'processed' THEN 'commit' ELSE 'refund' END::movement, c.organisation_id,
               a.entries + row_number() OVER (PARTITION BY c.organisation_id ORDER BY c.job_id), 1, p_by
        FROM closed c JOIN account a USING (organisation_id)),
    counted AS (
        SELECT organisation_id, count(*) AS n, count(*) FILTER (WHERE state = 'processed') AS earned FROM closed GROUP BY organisation_id),
    balanced AS (
        UPDATE account a SET reserved = a.reserved - c.n, spent = a.spent + c.earned, available = a.available + (c.n - c.earned),
            entries = a.entries + c.n
        FROM counted c WHERE a.organisation_id = c.organisation_id),
    summed AS (
        UPDATE run r SET committed = r.committed + c.earned, refunded = r.refunded + (c.n - c.earned),
            last_refunded_at = CASE WHEN c.n > c.earned THEN now() ELSE r.last_refunded_at END
        FROM (SELECT run_id, count(*)::integer AS n, (count(*) FILTER (WHERE state = 'processed'))::integer AS earned
              FROM closed GROUP BY run_id) c WHERE r.run_id = c.run_id)
    SELECT array_agg(organisation_id) INTO v_back FROM counted WHERE n > earned;
    -- A refund is credit too.
    IF v_back IS NOT NULL THEN r_resumed := resume_queues(v_back); END IF;
END $$;

-- A worker settles what it has done. Answers with the jobs that were its own to settle.
CREATE FUNCTION settle(p_worker bigint, p_jobs bigint[], p_attempts integer[], p_states outcome_state[], p_reasons text[], p_details text[],
    OUT r_settled bigint[], OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM worker WHERE worker_id = p_worker AND gone_at IS NULL AND lease_until > clock_timestamp() FOR KEY SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'worker % has no lease', p_worker USING ERRCODE = 'PG001'; END IF;
    SELECT c.r_settled, c.r_resumed INTO r_settled, r_resumed
    FROM close_reservations(p_worker, p_worker, p_jobs, p_attempts, p_states, p_reasons, p_details) c;
END $$;

-- A worker gives jobs back under their reservations: unstarted ('handed_back'), to be tried again after a delay
-- ('retry'), or because the work itself crashed ('crash'). Answers with those that were its own.
CREATE FUNCTION release(p_worker bigint, p_jobs bigint[], p_attempts integer[], p_ends text[], p_reasons text[], p_delays interval[])
RETURNS SETOF bigint
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    WITH asked AS MATERIALIZED (
        SELECT * FROM unnest(p_jobs, p_attempts, p_ends, p_reasons, p_delays) u (job_id, attempt, ended, reason, delay) ORDER BY job_id),
    given AS (
        UPDATE in_flight f SET worker_id = 0, due_at = clock_timestamp() + a.delay, since = f.since,
            retries = f.retries + (a.ended = 'retry')::int, crashes = f.crashes + (a.ended = 'crash')::int
        FROM asked a WHERE f.job_id = a.job_id AND f.attempt = a.attempt AND f.worker_id = p_worker
        RETURNING f.job_id, f.attempt, f.since, a.ended, a.reason)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended, reason)
    SELECT job_id, attempt, p_worker, since, ended, reason FROM given RETURNING job_id;
$$;

-- Declares workers dead whose lease ran out, and takes what nobody has and is due: the same reservation, the next
-- attempt. What was in hand when two workers died is suspect: at most p_suspects of those, so that the one that kills
-- does not take its neighbours along a third time. What has crashed p_crashes times is quarantined and refunded.
CREATE FUNCTION adopt(p_worker bigint, p_n integer, p_suspects integer, p_crashes smallint)
RETURNS TABLE (r_job bigint, r_attempt integer, r_organisation bigint, r_event bigint, r_operation operation, r_photo uuid,
               r_key text, r_bib_search boolean, r_face_search boolean, r_retries smallint, r_crashes smallint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
#variable_conflict use_column
DECLARE v_jobs bigint[]; v_attempts integer[];
BEGIN
    PERFORM 1 FROM worker WHERE worker_id = p_worker AND gone_at IS NULL AND lease_until > clock_timestamp() FOR KEY SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'worker % has no lease', p_worker USING ERRCODE = 'PG001'; END IF;
    -- FOR UPDATE, not less: it must wait out, or skip, a claim that holds the lease's KEY SHARE. After a restart of the
    -- server nobody could say that he lives: everybody gets the time to.
    WITH dead AS (
        SELECT worker_id FROM worker WHERE gone_at IS NULL AND worker_id <> p_worker AND lease_until < clock_timestamp()
            AND pg_postmaster_start_time() + interval '5 s' < clock_timestamp()
        ORDER BY worker_id FOR UPDATE SKIP LOCKED)
    UPDATE worker w SET gone_at = clock_timestamp() FROM dead WHERE w.worker_id = dead.worker_id;
    -- A later statement than the lock: it sees what the dead claimed last. And whatever else belongs to the gone.
    WITH lost AS (
        SELECT f.job_id FROM in_flight f JOIN worker w USING (worker_id) WHERE w.gone_at IS NOT NULL
        ORDER BY f.job_id FOR UPDATE OF f SKIP LOCKED),
    orphaned AS (
        UPDATE in_flight f SET worker_id = 0, due_at = clock_timestamp(), crashes = f.crashes + 1
        FROM lost, in_flight was WHERE f.job_id = lost.job_id AND was.job_id = f.job_id
        RETURNING f.job_id, f.attempt, f.since, was.worker_id)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended)
    SELECT job_id, attempt, worker_id, since, 'worker_gone' FROM orphaned;

    SELECT array_agg(job_id), array_agg(attempt) INTO v_jobs, v_attempts FROM (
        SELECT job_id, attempt FROM in_flight WHERE worker_id = 0 AND due_at <= clock_timestamp() AND crashes > 1 AND crashes >= p_crashes
        ORDER BY job_id LIMIT greatest(p_n, 1) FOR UPDATE SKIP LOCKED) s;
    IF v_jobs IS NOT NULL THEN
        PERFORM close_reservations(0, p_worker, v_jobs, v_attempts, array_fill('quarantined'::outcome_state, ARRAY[cardinality(v_jobs)]),
            array_fill('crashed'::text, ARRAY[cardinality(v_jobs)]),
            array_fill(format('%s workers died with this photo in hand', p_crashes), ARRAY[cardinality(v_jobs)]));
    END IF;

    RETURN QUERY
    WITH clean AS MATERIALIZED (
        SELECT job_id FROM in_flight WHERE worker_id = 0 AND due_at <= clock_timestamp() AND crashes < least(2, p_crashes)
        ORDER BY due_at LIMIT p_n FOR UPDATE SKIP LOCKED),
    suspect AS MATERIALIZED (
        SELECT job_id FROM in_flight WHERE worker_id = 0 AND due_at <= clock_timestamp() AND crashes > 1 AND crashes < p_crashes
        ORDER BY due_at LIMIT greatest(0, least(p_suspects, p_n - (SELECT count(*) FROM clean))) FOR UPDATE SKIP LOCKED),
    taken AS (
        UPDATE in_flight f SET worker_id = p_worker, attempt = f.attempt + 1, due_at = NULL, since = clock_timestamp()
        FROM (SELECT job_id FROM clean UNION ALL SELECT job_id FROM suspect) c WHERE f.job_id = c.job_id RETURNING f.*)
    SELECT t.job_id, t.attempt, t.organisation_id, q.event_id, q.operation, t.photo_id, p.key, e.bib_search, e.face_search, t.retries, t.crashes
    FROM taken t JOIN queue q USING (queue_id) JOIN photo p USING (photo_id) JOIN event e ON e.event_id = q.event_id;
END $$;

-- A worker process begins: a new incarnation with a lease.
CREATE FUNCTION register_worker(p_name text, p_slots integer, p_lease interval) RETURNS bigint
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO worker (name, slots, lease_until) VALUES (p_name, p_slots, clock_timestamp() + p_lease) RETURNING worker_id
$$;

-- Extends the lease. A lease that ran out while nobody noticed lives on: its jobs are still its own, because whoever
-- takes them sets gone_at first. False: it is gone for good.
CREATE FUNCTION heartbeat(p_worker bigint, p_lease interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE worker SET lease_until = clock_timestamp() + p_lease WHERE worker_id = p_worker AND gone_at IS NULL;
    RETURN FOUND;
END $$;

-- Hands back what the books say a worker has and the worker does not know of: an answer of claim or adopt that was lost
-- on its way, after the commit.
CREATE FUNCTION hand_back_unknown(p_worker bigint, p_known bigint[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_n integer;
BEGIN
    WITH given AS (
        UPDATE in_flight SET worker_id = 0, due_at = clock_timestamp()
        WHERE worker_id = p_worker AND p_worker <> 0 AND job_id <> ALL (p_known)
        RETURNING job_id, attempt, since)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended, reason)
    SELECT job_id, attempt, p_worker, since, 'handed_back', 'answer_lost' FROM given;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;

-- A worker leaves, and leaves nothing behind.
CREATE FUNCTION retire_worker(p_worker bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    -- Waits for a claim of ours whose connection was cut, and whose answer nobody will read.
    PERFORM 1 FROM worker WHERE worker_id = p_worker FOR UPDATE;
    PERFORM hand_back_unknown(p_worker, '{}');
    UPDATE worker SET gone_at = clock_timestamp() WHERE worker_id = p_worker AND gone_at IS NULL;
END $$;

CREATE FUNCTION hold_queue(p_event bigint, p_operation operation, p_owner text, p_note text, p_until timestamptz) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue bigint; v_hold bigint;
BEGIN
    UPDATE queue SET blocked = (blocked | 4)::smallint WHERE event_id = p_event AND operation = p_operation RETURNING queue_id INTO v_queue;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    INSERT INTO hold (queue_id, owner, note, until) VALUES (v_queue, p_owner, p_note, p_until) RETURNING hold_id INTO v_hold;
    RETURN v_hold;
END $$;

-- Lifts one hold; the queue runs when no other stands. r_woke: it runs now.
CREATE FUNCTION lift_hold(p_hold bigint, p_actor text, OUT r_lifted boolean, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue bigint;
BEGIN
    r_woke := false;
    SELECT queue_id INTO v_queue FROM hold WHERE hold_id = p_hold;
    IF NOT FOUND THEN RAISE EXCEPTION 'no hold %', p_hold USING ERRCODE = 'PG002'; END IF;
    PERFORM 1 FROM queue WHERE queue_id = v_queue FOR NO KEY UPDATE;
    UPDATE hold SET lifted_at = clock_timestamp(), lifted_by = p_actor WHERE hold_id = p_hold AND lifted_at IS NULL;
    r_lifted := FOUND;
    -- A later statement than the lock: it sees every hold that was placed before us.
    UPDATE queue q SET blocked = (q.blocked & ~4)::smallint WHERE q.queue_id = v_queue AND q.blocked & 4 <> 0
        AND NOT EXISTS (SELECT FROM hold h WHERE h.queue_id = v_queue AND h.lifted_at IS NULL)
    RETURNING q.blocked = 0 INTO r_woke;
    r_woke := coalesce(r_woke, false);
END $$;

-- Lifts the holds whose time is over. Any worker may call it, at any time.
CREATE FUNCTION expire_holds() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_hold bigint; v_n integer := 0;
BEGIN
    FOR v_hold IN SELECT h.hold_id FROM hold h WHERE h.lifted_at IS NULL AND h.until <= clock_timestamp() ORDER BY h.queue_id, h.hold_id LOOP
        -- Never waits: whoever has the queue now is followed by another look in a second.
        PERFORM 1 FROM queue q JOIN hold h USING (queue_id) WHERE h.hold_id = v_hold FOR NO KEY UPDATE OF q SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        IF (SELECT r_lifted FROM lift_hold(v_hold, 'expired')) THEN v_n := v_n + 1; END IF;
    END LOOP;
    RETURN v_n;
END $$;

-- A worker looks at photos of strangers: it may do a worker's work, and bring in no credit.
GRANT EXECUTE ON FUNCTION claim, settle, release, adopt, register_worker, heartbeat, hand_back_unknown, retire_worker, expire_holds
TO photogate_worker;
GRANT EXECUTE ON FUNCTION create_organisation, create_event, enqueue, retry, top_up, hold_queue, lift_hold TO photogate_app;
