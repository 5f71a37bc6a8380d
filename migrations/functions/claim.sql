-- Claim: a worker takes a batch of photos, and with each photo a credit. The claim is the reservation.
--
-- Lock order: the worker's lease (KEY SHARE), accounts in id order, queues, usage. A claim only inserts new in_flight
-- rows. Keep it so: settle and adopt take their in_flight rows before the account.
-- What a lock protects is read in a later statement than the one that took the lock. A claim that locked a queue and
-- read its jobs in one statement moved the head over jobs that its snapshot did not have.
--
-- enable_seqscan = off: in_flight is small, and grows by what was deleted and is not vacuumed yet. A stored plan may
-- read the whole table. It was cheap when the table was small, and a minute later it costs fifty times as much. With
-- this setting, the planner uses an index.

-- Takes up to p_n photos. It is fair over organisations from p_cursor on, then over their queues. It may answer with
-- nothing although work is left (others have the rows locked): ask again.
CREATE FUNCTION claim(p_worker bigint, p_n integer, p_cursor bigint, p_async_commit boolean)
RETURNS TABLE (r_job bigint, r_attempt integer, r_organisation bigint, r_event bigint, r_operation operation,
               r_photo uuid, r_key text, r_payload jsonb, r_bib_search boolean, r_face_search boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    c_queues constant integer := 4;                        -- of an organisation, in one claim
    v_most   integer := least(p_n, 16);                    -- organisations, in one claim
    v_next   bigint[]; v_more bigint[]; v_zero bigint[];
    -- These go together: one element for each account that is locked.
    v_organisation bigint[]; v_available bigint[]; v_cursor bigint[]; v_entries bigint[]; v_quota bigint[];
    v_queue bigint[];
    v_at     timestamptz[]; v_ends timestamptz;
BEGIN
    -- Whoever declares this worker dead cannot pass until we commit.
    PERFORM 1 FROM worker
    WHERE worker_id = p_worker AND gone_at IS NULL AND lease_until > clock_timestamp() FOR KEY SHARE;
    IF NOT FOUND THEN RAISE EXCEPTION 'worker % has no lease', p_worker USING ERRCODE = 'PG001'; END IF;
    IF p_async_commit THEN
        -- This is safe: PostgreSQL's log is written in order, so if a settle is durable, its claim is.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;

    -- 1. Whose turn it is: a skip scan of the partial index. Paused, drained and held queues are not in it.
    WITH RECURSIVE o (organisation_id) AS (
        (SELECT q.organisation_id FROM queue q
         WHERE q.runnable AND q.organisation_id > p_cursor
         ORDER BY q.organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT q.organisation_id FROM queue q
                WHERE q.runnable AND q.organisation_id > o.organisation_id
                ORDER BY q.organisation_id LIMIT 1)
        FROM o WHERE o.organisation_id IS NOT NULL)
    SELECT array_agg(organisation_id) INTO v_next
    FROM (SELECT organisation_id FROM o WHERE organisation_id IS NOT NULL LIMIT v_most) s;
    -- If there are too few after the cursor, it goes on from the beginning, up to the cursor.
    IF coalesce(cardinality(v_next), 0) < v_most AND p_cursor > 0 THEN
        WITH RECURSIVE o (organisation_id) AS (
            (SELECT q.organisation_id FROM queue q
             WHERE q.runnable AND q.organisation_id <= p_cursor
             ORDER BY q.organisation_id LIMIT 1)
            UNION ALL
            SELECT (SELECT q.organisation_id FROM queue q
                    WHERE q.runnable AND q.organisation_id > o.organisation_id AND q.organisation_id <= p_cursor
                    ORDER BY q.organisation_id LIMIT 1)
            FROM o WHERE o.organisation_id IS NOT NULL)
        SELECT array_agg(organisation_id) INTO v_more
        FROM (SELECT organisation_id FROM o WHERE organisation_id IS NOT NULL
              LIMIT v_most - coalesce(cardinality(v_next), 0)) s;
        v_next := v_next || v_more;
    END IF;
    IF v_next IS NULL THEN RETURN; END IF;

    -- 2. Their accounts, in id order, without waiting. If all are busy, it waits for the first.
    SELECT array_agg(organisation_id), array_agg(available), array_agg(queue_cursor), array_agg(entries),
           array_agg(greatest(clock(), moved_at)), min(month_ends_at)
    INTO v_organisation, v_available, v_cursor, v_entries, v_at, v_ends FROM (
        SELECT * FROM account WHERE organisation_id = ANY (v_next)
        ORDER BY organisation_id FOR NO KEY UPDATE SKIP LOCKED) s;
    IF v_organisation IS NULL THEN
        SELECT array_agg(organisation_id), array_agg(available), array_agg(queue_cursor), array_agg(entries),
               array_agg(greatest(clock(), moved_at)), min(month_ends_at)
        INTO v_organisation, v_available, v_cursor, v_entries, v_at, v_ends FROM (
            SELECT * FROM account WHERE organisation_id = v_next[1] FOR NO KEY UPDATE) s;
    END IF;

    IF v_ends <= ANY (v_at) THEN PERFORM open_months(v_organisation, v_at); END IF;

    -- 3. Each one's share of the batch, its queues in turn, and their locks. This is a statement of its own. The next
    -- one must see every job that was committed before the lock was ours. Otherwise a claim that meets an enqueue moves
    -- the head over jobs that its snapshot does not have.
    SELECT array_agg(least(u.available, p_n / n + (i <= p_n % n)::int) ORDER BY u.organisation_id) INTO v_quota FROM (
        SELECT x.*, count(*) OVER () AS n, row_number() OVER (ORDER BY x.organisation_id) AS i
        FROM unnest(v_organisation, v_available) x (organisation_id, available)) u;
    SELECT array_agg(queue_id) INTO v_queue FROM (
        SELECT q.queue_id FROM unnest(v_organisation, v_quota, v_cursor) o (organisation_id, quota, cursor)
        CROSS JOIN LATERAL (
            SELECT * FROM (
                (SELECT q.queue_id FROM queue q
                 WHERE q.organisation_id = o.organisation_id AND q.runnable AND q.queue_id > o.cursor
                 ORDER BY q.queue_id LIMIT c_queues)
                UNION ALL
                (SELECT q.queue_id FROM queue q
                 WHERE q.organisation_id = o.organisation_id AND q.runnable AND q.queue_id <= o.cursor
                 ORDER BY q.queue_id LIMIT c_queues)) w
            LIMIT least(c_queues, o.quota)) c
        JOIN queue q ON q.queue_id = c.queue_id AND q.runnable
        FOR NO KEY UPDATE OF q SKIP LOCKED) s;

    -- 4. In one statement: move the heads (moved), open the reservations (flying, booked), and take one credit for each
    -- photo from its account (charged).
    RETURN QUERY
    WITH o AS MATERIALIZED (
        -- The accounts that are locked.
        SELECT * FROM unnest(v_organisation, v_quota, v_entries, v_at) AS u (organisation_id, quota, entries, at)),
    wanted AS (
        -- The queues that are locked, each with an equal share of its organisation's quota. The event is read once for
        -- each queue. Reading it once for each photo was an eighth of all that a claim read (with 10,000 events).
        SELECT o.organisation_id, o.quota, q.queue_id, q.event_id, q.operation, q.head, q.tail, q.skipped,
               e.bib_search, e.face_search,
               least(q.tail - q.head - q.skipped,
                     ceil(o.quota::numeric / count(*) OVER (PARTITION BY o.organisation_id))::bigint) AS want
        FROM queue q JOIN o USING (organisation_id) JOIN event e USING (event_id)
        WHERE q.queue_id = ANY (v_queue)),
    taken AS MATERIALIZED (
        -- Shares were rounded up: here they are cut, in queue order, to what the quota allows.
        SELECT *, greatest(0, least(want, quota - (sum(want) OVER (PARTITION BY organisation_id ORDER BY queue_id)
                                                   - want)))::bigint AS take
        FROM wanted),
    jobs AS MATERIALIZED (
        SELECT j.job_id, j.position, j.photo_id, j.run_id, j.payload, t.organisation_id, t.queue_id, t.event_id,
               t.operation, t.bib_search, t.face_search
        FROM taken t CROSS JOIN LATERAL (
            -- The upper bound makes this a short range of the index. Without it, PostgreSQL sorted all waiting jobs.
            SELECT * FROM job j
            WHERE j.queue_id = t.queue_id AND j.position > t.head AND j.position <= t.head + t.take + t.skipped
                AND (t.skipped = 0
                     OR NOT EXISTS (SELECT FROM skip s WHERE s.queue_id = j.queue_id AND s.position = j.position))
            ORDER BY j.position LIMIT t.take) j),
    moved AS (
        UPDATE queue q SET
            head = t.new_head,
            skipped = t.skipped - (t.new_head - t.head - t.take),
            drained = t.new_head = t.tail
        FROM (
            -- The claim that takes the last photo also passes over what is left, all of which is skipped.
            SELECT *, CASE WHEN take = tail - head - skipped THEN tail
                           WHEN skipped = 0 THEN head + take
                           ELSE (SELECT max(j.position) FROM jobs j WHERE j.queue_id = taken.queue_id) END AS new_head
            FROM taken WHERE take > 0) t
        WHERE q.queue_id = t.queue_id),
    flying AS (
        INSERT INTO in_flight (job_id, organisation_id, queue_id, run_id, photo_id, worker_id, attempt, since)
        SELECT job_id, organisation_id, queue_id, run_id, photo_id, p_worker, 1, clock_timestamp() FROM jobs),
    booked AS (
        -- A trigger seals what is written here.
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id, at)
        SELECT j.job_id, 0, 'reserve', j.organisation_id,
               o.entries + row_number() OVER (PARTITION BY j.organisation_id ORDER BY j.job_id), 1, p_worker, o.at
        FROM jobs j JOIN o USING (organisation_id)),
    counted AS (
        SELECT organisation_id, count(*) AS n, max(queue_id) AS cursor FROM jobs GROUP BY organisation_id),
    charged AS (
        UPDATE account a SET
            available = a.available - c.n,
            reserved = a.reserved + c.n,
            entries = a.entries + c.n,
            queue_cursor = c.cursor,
            moved_at = o.at
        FROM counted c JOIN o USING (organisation_id) WHERE a.organisation_id = c.organisation_id),
    used AS (
        INSERT INTO usage AS u (run_id, month, organisation_id, queue_id, claimed, first_claimed_at, last_claimed_at)
        SELECT c.run_id, a.month, c.organisation_id, c.queue_id, c.n, o.at, o.at
        FROM (SELECT run_id, organisation_id, queue_id, count(*)::integer AS n
              FROM jobs GROUP BY run_id, organisation_id, queue_id) c
        JOIN account a USING (organisation_id) JOIN o USING (organisation_id)
        ON CONFLICT (run_id, month) DO UPDATE SET
            claimed = u.claimed + excluded.claimed,
            first_claimed_at = coalesce(u.first_claimed_at, excluded.first_claimed_at),
            last_claimed_at = excluded.last_claimed_at)
    SELECT j.job_id, 1, j.organisation_id, j.event_id, j.operation, j.photo_id, p.key, j.payload, j.bib_search,
           j.face_search
    FROM jobs j JOIN photo p USING (photo_id);

    -- 5. Still under the account's lock: whoever has spent the last credit is paused, in this same transaction.
    SELECT array_agg(organisation_id) INTO v_zero
    FROM account WHERE organisation_id = ANY (v_organisation) AND available = 0;
    IF v_zero IS NOT NULL THEN PERFORM pause_queues(v_zero); END IF;
END $$;
GRANT EXECUTE ON FUNCTION claim TO photogate_worker;
