-- The gate's functions anew, whole: those of 0006 that now also book in months (0008), price purchases (0009) and pass
-- over what is skipped (0007). Every rule of 0006 holds here. The ledger's own trigger seals what they write (0010).
--
-- An account's movements are booked at one instant a call, its own, taken under its lock: the later of now and its last
-- movement.
-- Usage rows are counted under the account's lock too, and so in its place in the lock order.

CREATE OR REPLACE FUNCTION create_organisation(p_name text, p_time_zone text) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_organisation bigint; v_at timestamptz := clock(); v_month date;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = p_time_zone) THEN
        RAISE EXCEPTION 'no time zone "%"', p_time_zone USING ERRCODE = 'PG006';
    END IF;
    INSERT INTO organisation (name, time_zone) VALUES (p_name, p_time_zone) RETURNING organisation_id INTO v_organisation;
    v_month := month_of(v_at, p_time_zone);
    INSERT INTO account (organisation_id, month, month_ends_at, moved_at)
    VALUES (v_organisation, v_month, month_begins((v_month + interval '1 month')::date, p_time_zone), v_at);
    INSERT INTO month (organisation_id, month, entries, funded, available, reserved, spent) VALUES (v_organisation, v_month, 0, 0, 0, 0, 0);
    RETURN v_organisation;
END $$;

-- Appends the photos that may be queued, in the order given, and writes the run. Returns how many were taken and why
-- the others were not. p_take: 'new' takes photos that were never queued, 'failed' those whose latest job failed, and
-- 'skipped' those whose latest job was passed over by a claim.
DROP FUNCTION append_jobs;
CREATE FUNCTION append_jobs(p_queue queue, p_photos uuid[], p_actor text, p_take text, p_unknown integer,
    OUT r_run bigint, OUT r_queued integer, OUT r_repeated integer, OUT r_waiting integer, OUT r_processed integer,
    OUT r_failed integer, OUT r_skipped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_photo uuid[]; v_retry smallint[];
BEGIN
    -- The caller holds the queue's lock: whatever another enqueue of these photos did is committed and seen here.
    WITH asked AS (
        SELECT photo_id, min(n) AS n FROM unnest(p_photos) WITH ORDINALITY u (photo_id, n) GROUP BY photo_id),
    seen AS (
        SELECT a.photo_id, a.n, j.retry, o.state, s.position IS NOT NULL AS skipped, coalesce(j.position <= p_queue.head, false) AS passed
        FROM asked a
        LEFT JOIN LATERAL (SELECT x.job_id, x.retry, x.position FROM job x WHERE x.photo_id = a.photo_id AND x.queue_id = p_queue.queue_id
                           ORDER BY x.retry DESC LIMIT 1) j ON true
        LEFT JOIN outcome o ON o.job_id = j.job_id
        LEFT JOIN skip s ON s.queue_id = p_queue.queue_id AND s.position = j.position),
    sorted AS (
        SELECT *, CASE p_take WHEN 'new' THEN retry IS NULL WHEN 'failed' THEN coalesce(state IN ('failed', 'quarantined'), false)
                              WHEN 'skipped' THEN skipped AND passed END AS take FROM seen)
    SELECT array_agg(photo_id ORDER BY n) FILTER (WHERE take),
           array_agg((coalesce(retry, -1) + 1)::smallint ORDER BY n) FILTER (WHERE take),
           cardinality(p_photos) - count(*),
           count(*) FILTER (WHERE NOT take AND retry IS NOT NULL AND state IS NULL AND NOT skipped),
           count(*) FILTER (WHERE NOT take AND state = 'processed'),
           count(*) FILTER (WHERE NOT take AND state IN ('failed', 'quarantined')),
           count(*) FILTER (WHERE NOT take AND skipped)
    INTO v_photo, v_retry, r_repeated, r_waiting, r_processed, r_failed, r_skipped FROM sorted;
    r_queued := coalesce(cardinality(v_photo), 0);
    INSERT INTO run (organisation_id, event_id, queue_id, actor, retry, asked, queued, first_position)
    VALUES (p_queue.organisation_id, p_queue.event_id, p_queue.queue_id, p_actor, p_take <> 'new',
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

-- Queues photos of an event. A photo that is queued, done, failed or skipped already is left as it is, and counted.
-- p_ids are fresh ids for the photos that are new. r_woke: the queue was drained, somebody should be told.
DROP FUNCTION enqueue;
CREATE FUNCTION enqueue(p_event bigint, p_operation operation, p_keys text[], p_ids uuid[], p_actor text,
    OUT r_run bigint, OUT r_queued integer, OUT r_repeated integer, OUT r_waiting integer, OUT r_processed integer,
    OUT r_failed integer, OUT r_skipped integer, OUT r_available bigint, OUT r_ahead bigint, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_photos uuid[];
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
    SELECT * INTO r_run, r_queued, r_repeated, r_waiting, r_processed, r_failed, r_skipped
    FROM append_jobs(v_queue, coalesce(v_photos, '{}'), p_actor, 'new', 0);
    r_woke := v_queue.blocked & 1 = 1 AND r_queued > 0;
    -- Information for the caller, read without a lock: the next claim may change it.
    SELECT a.available, coalesce(sum(q.tail - q.head - q.skipped), 0) INTO r_available, r_ahead
    FROM account a LEFT JOIN queue q USING (organisation_id)
    WHERE a.organisation_id = v_queue.organisation_id GROUP BY a.available;
END $$;

-- Queues failed photos again, because a person asked. Each reserves anew when it is claimed.
CREATE OR REPLACE FUNCTION retry(p_event bigint, p_operation operation, p_photos uuid[], p_actor text,
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
    FROM append_jobs(v_queue, coalesce(v_photos, '{}'), p_actor, 'failed', cardinality(p_photos) - coalesce(cardinality(v_photos), 0)) x;
    r_skipped := cardinality(p_photos) - r_queued;
    r_woke := v_queue.blocked & 1 = 1 AND r_queued > 0;
    SELECT a.available, coalesce(sum(q.tail - q.head - q.skipped), 0) INTO r_available, r_ahead
    FROM account a LEFT JOIN queue q USING (organisation_id)
    WHERE a.organisation_id = v_queue.organisation_id GROUP BY a.available;
END $$;

-- Brings credit in (or, for kind refund with a negative amount, takes it out). The same key again changes nothing. A
-- purchase is at the organisation's price of this moment. PG007: it has none.
CREATE OR REPLACE FUNCTION top_up(p_organisation bigint, p_kind top_up_kind, p_amount bigint, p_actor text, p_note text, p_key text,
    OUT r_transaction bigint, OUT r_credited boolean, OUT r_available bigint, OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_entry bigint; v_at timestamptz; v_ends timestamptz; v_price numeric; v_currency text;
BEGIN
    r_credited := false;
    r_resumed := false;
    -- The account first, whatever comes: it is the lock order, and a replay reads a settled balance.
    SELECT available, greatest(clock(), moved_at), month_ends_at INTO r_available, v_at, v_ends
    FROM account WHERE organisation_id = p_organisation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
    IF p_kind = 'purchase' THEN
        SELECT price_per_credit, currency INTO v_price, v_currency FROM organisation WHERE organisation_id = p_organisation;
    END IF;
    INSERT INTO top_up (transaction_id, organisation_id, kind, amount, actor, note, idempotency_key, at, price_per_credit, currency)
    VALUES (nextval('transaction_id'), p_organisation, p_kind, p_amount, p_actor, p_note, p_key, v_at, v_price, v_currency)
    ON CONFLICT (organisation_id, idempotency_key) DO NOTHING RETURNING transaction_id INTO r_transaction;
    IF r_transaction IS NULL THEN
        SELECT transaction_id INTO r_transaction FROM top_up
        WHERE organisation_id = p_organisation AND idempotency_key = p_key AND amount = p_amount AND kind = p_kind;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'the idempotency key "%" was used for another top-up', p_key USING ERRCODE = 'PG003';
        END IF;
        RETURN;
    END IF;
    IF p_kind = 'purchase' AND v_price IS NULL THEN
        RAISE EXCEPTION 'organisation % has no price per credit', p_organisation USING ERRCODE = 'PG007';
    END IF;
    IF r_available + p_amount < 0 THEN
        RAISE EXCEPTION 'only % credits are available', r_available USING ERRCODE = 'PG004';
    END IF;
    IF v_at >= v_ends THEN PERFORM open_months(ARRAY[p_organisation], ARRAY[v_at]); END IF;
    UPDATE account SET funded = funded + p_amount, available = available + p_amount, entries = entries + 1, moved_at = v_at
    WHERE organisation_id = p_organisation RETURNING entries, available INTO v_entry, r_available;
    INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, at)
    VALUES (r_transaction, 0, 'top_up', p_organisation, v_entry, p_amount, v_at);
    r_credited := true;
    IF r_available > 0 THEN
        r_resumed := resume_queues(ARRAY[p_organisation]); -- a later statement: see there
    ELSE
        PERFORM pause_queues(ARRAY[p_organisation]);
    END IF;
END $$;

-- Takes up to p_n photos and with each a credit: the claim is the reservation. Fair over organisations from p_cursor on,
-- then over their queues. May answer with nothing although work is left (rows locked by others): ask again.
CREATE OR REPLACE FUNCTION claim(p_worker bigint, p_n integer, p_cursor bigint, p_async_commit boolean)
RETURNS TABLE (r_job bigint, r_attempt integer, r_organisation bigint, r_event bigint, r_operation operation, r_photo uuid,
               r_key text, r_bib_search boolean, r_face_search boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE
    c_queues constant integer := 4;                        -- of an organisation, in one claim
    v_most   integer := least(p_n, 16);                    -- organisations, in one claim
    v_next   bigint[]; v_more bigint[]; v_zero bigint[];
    v_organisation bigint[]; v_available bigint[]; v_cursor bigint[]; v_entries bigint[]; v_quota bigint[]; v_queue bigint[];
    v_at     timestamptz[]; v_ends timestamptz;
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
    SELECT array_agg(organisation_id), array_agg(available), array_agg(queue_cursor), array_agg(entries), array_agg(greatest(clock(), moved_at)), min(month_ends_at)
    INTO v_organisation, v_available, v_cursor, v_entries, v_at, v_ends FROM (
        SELECT * FROM account WHERE organisation_id = ANY (v_next) ORDER BY organisation_id FOR NO KEY UPDATE SKIP LOCKED) s;
    IF v_organisation IS NULL THEN
        SELECT array_agg(organisation_id), array_agg(available), array_agg(queue_cursor), array_agg(entries), array_agg(greatest(clock(), moved_at)), min(month_ends_at)
        INTO v_organisation, v_available, v_cursor, v_entries, v_at, v_ends FROM (
            SELECT * FROM account WHERE organisation_id = v_next[1] FOR NO KEY UPDATE) s;
    END IF;

    IF v_ends <= ANY (v_at) THEN PERFORM open_months(v_organisation, v_at); END IF;

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
        SELECT * FROM unnest(v_organisation, v_quota, v_entries, v_at) AS u (organisation_id, quota, entries, at)),
    wanted AS (
        SELECT o.organisation_id, o.quota, q.queue_id, q.event_id, q.operation, q.head, q.tail, q.skipped,
               least(q.tail - q.head - q.skipped, ceil(o.quota::numeric / count(*) OVER (PARTITION BY o.organisation_id))::bigint) AS want
        FROM queue q JOIN o USING (organisation_id) WHERE q.queue_id = ANY (v_queue)),
    taken AS MATERIALIZED (
        SELECT *, greatest(0, least(want, quota - (sum(want) OVER (PARTITION BY organisation_id ORDER BY queue_id) - want)))::bigint AS take
        FROM wanted),
    jobs AS MATERIALIZED (
        SELECT j.job_id, j.position, j.photo_id, j.run_id, t.organisation_id, t.queue_id, t.event_id, t.operation
        FROM taken t CROSS JOIN LATERAL (
            -- The upper bound keeps it a short range of the index however much waits: without it, it was a sort of the rest.
            SELECT * FROM job j WHERE j.queue_id = t.queue_id AND j.position > t.head AND j.position <= t.head + t.take + t.skipped
                AND (t.skipped = 0 OR NOT EXISTS (SELECT FROM skip s WHERE s.queue_id = j.queue_id AND s.position = j.position))
            ORDER BY j.position LIMIT t.take) j),
    moved AS (
        UPDATE queue q SET head = t.new_head, skipped = t.skipped - (t.new_head - t.head - t.take),
            blocked = CASE WHEN t.new_head = t.tail THEN (q.blocked | 1)::smallint ELSE q.blocked END
        FROM (
            -- The last that is to be had takes what is left, all of it skipped, along.
            SELECT *, CASE WHEN take = tail - head - skipped THEN tail WHEN skipped = 0 THEN head + take
                           ELSE (SELECT max(j.position) FROM jobs j WHERE j.queue_id = taken.queue_id) END AS new_head
            FROM taken WHERE take > 0) t
        WHERE q.queue_id = t.queue_id),
    flying AS (
        INSERT INTO in_flight (job_id, organisation_id, queue_id, run_id, photo_id, worker_id, attempt, since)
        SELECT job_id, organisation_id, queue_id, run_id, photo_id, p_worker, 1, clock_timestamp() FROM jobs),
    booked AS (
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id, at)
        SELECT j.job_id, 0, 'reserve', j.organisation_id,
               o.entries + row_number() OVER (PARTITION BY j.organisation_id ORDER BY j.job_id), 1, p_worker, o.at
        FROM jobs j JOIN o USING (organisation_id)),
    counted AS (SELECT organisation_id, count(*) AS n, max(queue_id) AS cursor FROM jobs GROUP BY organisation_id),
    charged AS (
        UPDATE account a SET available = a.available - c.n, reserved = a.reserved + c.n, entries = a.entries + c.n, queue_cursor = c.cursor,
            moved_at = o.at
        FROM counted c JOIN o USING (organisation_id) WHERE a.organisation_id = c.organisation_id),
    used AS (
        INSERT INTO usage AS u (run_id, month, organisation_id, queue_id, claimed, first_claimed_at, last_claimed_at)
        SELECT c.run_id, a.month, c.organisation_id, c.queue_id, c.n, o.at, o.at
        FROM (SELECT run_id, organisation_id, queue_id, count(*)::integer AS n FROM jobs GROUP BY run_id, organisation_id, queue_id) c
        JOIN account a USING (organisation_id) JOIN o USING (organisation_id)
        ON CONFLICT (run_id, month) DO UPDATE SET claimed = u.claimed + excluded.claimed,
            first_claimed_at = coalesce(u.first_claimed_at, excluded.first_claimed_at), last_claimed_at = excluded.last_claimed_at)
    SELECT j.job_id, 1, j.organisation_id, j.event_id, j.operation, j.photo_id, p.key, e.bib_search, e.face_search
    FROM jobs j JOIN photo p USING (photo_id) JOIN event e ON e.event_id = j.event_id;

    -- 5. Still under the account's lock: who has spent the last credit is paused, in this same transaction.
    SELECT array_agg(organisation_id) INTO v_zero FROM account WHERE organisation_id = ANY (v_organisation) AND available = 0;
    IF v_zero IS NOT NULL THEN PERFORM pause_queues(v_zero); END IF;
END $$;

-- Closes reservations whose in_flight row is still (job, attempt, p_fence): commit for a processed photo, refund for
-- any other. Everything else is left alone, and missing from the answer. p_by stands in the books.
CREATE OR REPLACE FUNCTION close_reservations(p_fence bigint, p_by bigint, p_jobs bigint[], p_attempts integer[], p_states outcome_state[],
    p_reasons text[], p_details text[], OUT r_settled bigint[], OUT r_resumed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan AS $$
#variable_conflict use_column
DECLARE v_rows in_flight[]; v_n bigint[]; v_organisations bigint[]; v_back bigint[]; v_at timestamptz[]; v_ends timestamptz;
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
    SELECT array_agg(organisation_id), array_agg(greatest(clock(), moved_at)), min(month_ends_at) INTO v_organisations, v_at, v_ends FROM (
        SELECT organisation_id, moved_at, month_ends_at FROM account WHERE organisation_id = ANY (v_organisations) ORDER BY organisation_id FOR NO KEY UPDATE) a;
    IF v_ends <= ANY (v_at) THEN PERFORM open_months(v_organisations, v_at); END IF;
    -- A later statement than the lock, so that it sees the account as it was locked; runs come after accounts.
    WITH closed AS MATERIALIZED (
        SELECT f.*, p_states[u.n] AS state, p_reasons[u.n] AS reason, p_details[u.n] AS detail
        FROM unnest(v_n) WITH ORDINALITY u (n, i) CROSS JOIN LATERAL (SELECT (v_rows[u.i]).*) f),
    o AS MATERIALIZED (SELECT * FROM unnest(v_organisations, v_at) AS u (organisation_id, at)),
    told AS (
        INSERT INTO outcome (job_id, queue_id, photo_id, run_id, state, reason, detail, attempt, worker_id, started_at)
        SELECT job_id, queue_id, photo_id, run_id, state, reason, left(detail, 500), attempt, p_by, since FROM closed),
    booked AS (
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id, at)
        SELECT c.job_id, 1, CASE WHEN c.state = 'processed' THEN 'commit' ELSE 'refund' END::movement, c.organisation_id,
               a.entries + row_number() OVER (PARTITION BY c.organisation_id ORDER BY c.job_id), 1, p_by, o.at
        FROM closed c JOIN account a USING (organisation_id) JOIN o USING (organisation_id)),
    counted AS (
        SELECT organisation_id, count(*) AS n, count(*) FILTER (WHERE state = 'processed') AS earned FROM closed GROUP BY organisation_id),
    balanced AS (
        UPDATE account a SET reserved = a.reserved - c.n, spent = a.spent + c.earned, available = a.available + (c.n - c.earned),
            entries = a.entries + c.n, moved_at = o.at
        FROM counted c JOIN o USING (organisation_id) WHERE a.organisation_id = c.organisation_id),
    summed AS (
        INSERT INTO usage AS u (run_id, month, organisation_id, queue_id, committed, refunded, first_refunded_at, last_refunded_at)
        SELECT c.run_id, a.month, c.organisation_id, c.queue_id, c.earned, c.back, CASE WHEN c.back > 0 THEN o.at END, CASE WHEN c.back > 0 THEN o.at END
        FROM (SELECT run_id, organisation_id, queue_id, (count(*) FILTER (WHERE state = 'processed'))::integer AS earned,
                     (count(*) FILTER (WHERE state <> 'processed'))::integer AS back
              FROM closed GROUP BY run_id, organisation_id, queue_id) c
        JOIN account a USING (organisation_id) JOIN o USING (organisation_id)
        ON CONFLICT (run_id, month) DO UPDATE SET committed = u.committed + excluded.committed, refunded = u.refunded + excluded.refunded,
            first_refunded_at = coalesce(u.first_refunded_at, excluded.first_refunded_at),
            last_refunded_at = coalesce(excluded.last_refunded_at, u.last_refunded_at))
    SELECT array_agg(organisation_id) INTO v_back FROM counted WHERE n > earned;
    -- A refund is credit too.
    IF v_back IS NOT NULL THEN r_resumed := resume_queues(v_back); END IF;
END $$;

-- Takes photos that wait out of their queue: they are not claimed, and cost nothing.
CREATE FUNCTION skip_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text, OUT r_skipped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_rest bigint;
BEGIN
    IF cardinality(p_photos) > 10000 THEN RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006'; END IF;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    -- A later statement than the lock: what is claimed by now is not skipped any more.
    INSERT INTO skip (queue_id, position, photo_id, actor)
    SELECT v_queue.queue_id, j.position, j.photo_id, p_actor FROM (SELECT DISTINCT photo_id FROM unnest(p_photos) photo_id) a
    JOIN job j ON j.photo_id = a.photo_id AND j.queue_id = v_queue.queue_id AND j.position > v_queue.head
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS r_skipped = ROW_COUNT;
    v_rest := v_queue.tail - v_queue.head - v_queue.skipped - r_skipped;
    IF v_rest > 0 THEN
        UPDATE queue SET skipped = skipped + r_skipped WHERE queue_id = v_queue.queue_id;
    ELSE
        -- Nothing else is left: the queue is drained.
        UPDATE queue SET skipped = 0, head = tail, blocked = (blocked | 1)::smallint WHERE queue_id = v_queue.queue_id;
    END IF;
END $$;

-- Puts skipped photos back: where they stood, or, if the claims have passed that, at the end.
CREATE FUNCTION restore_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text, OUT r_restored integer, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_photos uuid[]; v_again integer := 0;
BEGIN
    IF cardinality(p_photos) > 10000 THEN RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006'; END IF;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    -- Later statements than the lock.
    DELETE FROM skip WHERE queue_id = v_queue.queue_id AND position > v_queue.head AND photo_id = ANY (p_photos);
    GET DIAGNOSTICS r_restored = ROW_COUNT;
    UPDATE queue SET skipped = skipped - r_restored WHERE queue_id = v_queue.queue_id;
    SELECT array_agg(DISTINCT photo_id) INTO v_photos FROM skip
    WHERE queue_id = v_queue.queue_id AND position <= v_queue.head AND photo_id = ANY (p_photos);
    IF v_photos IS NOT NULL THEN
        SELECT r_queued INTO v_again FROM append_jobs(v_queue, v_photos, p_actor, 'skipped', 0);
    END IF;
    r_woke := v_queue.blocked & 1 = 1 AND v_again > 0;
    r_restored := r_restored + v_again;
END $$;
CREATE INDEX skip_of_photo ON skip (photo_id, queue_id);

GRANT EXECUTE ON FUNCTION enqueue, skip_photos, restore_photos TO photogate_app;
