-- Claim: a worker takes a batch of photos, and with each photo a credit. The claim is the reservation.
--
-- Lock order: the worker's lease (KEY SHARE), accounts in id order, queues, tails, usage. It waits for the lease, and
-- for one account if all are locked; never for a queue or a tail (SKIP LOCKED), because it may hold the accounts of
-- several organisations, and an organisation can keep its own queue locked. A claim only inserts new in_flight rows.
-- Keep it so: settle and adopt take their in_flight rows before the account.
-- What a lock protects is read in a later statement than the one that took the lock. A claim that locked a queue and
-- read its jobs in one statement moved the head over jobs that its snapshot did not have.
--
-- The rows of accounts, heads, tails, counts and usage are rewritten all the time. While somebody holds an old
-- snapshot, their old versions cannot be removed. An index has its entries of one key in the order of the table, so the
-- newest is the last. Each such row is therefore looked for from the end (BETWEEN x AND x ORDER BY x DESC LIMIT 1; with
-- x = x PostgreSQL would read forward, through all old versions), and then written by its place (ctid), which does not
-- change while its lock is held. Decision 0041 has the figures.
--
-- enable_seqscan = off: in_flight is small, and grows by what was deleted and is not vacuumed yet. A stored plan may
-- read the whole table. It was cheap when the table was small, and a minute later it costs fifty times as much. With
-- this setting, the planner uses an index.

-- The next p_most organisations whose queues can run, after p_cursor and then from the beginning: a skip scan of the
-- partial index. Paused, drained and held queues are not in it. Nor is an organisation all of whose queues are too fast
-- now: it would take the place of one that is not. (A scan passes over 100 of these at most.) It runs with the rights
-- and the settings of the caller, because a setting of its own costs as much as the scan.
CREATE FUNCTION next_organisations(p_cursor bigint, p_most integer) RETURNS bigint[]
LANGUAGE plpgsql STABLE AS $$
DECLARE c_passed constant integer := 100; v_next bigint[]; v_more bigint[];
BEGIN
    WITH RECURSIVE o (organisation_id, n) AS (
        (SELECT q.organisation_id, 1 FROM queue q
         WHERE q.runnable AND q.organisation_id > p_cursor
         ORDER BY q.organisation_id LIMIT 1)
        UNION ALL
        SELECT (SELECT q.organisation_id FROM queue q
                WHERE q.runnable AND q.organisation_id > o.organisation_id
                ORDER BY q.organisation_id LIMIT 1), o.n + 1
        FROM o WHERE o.organisation_id IS NOT NULL AND o.n < p_most + c_passed)
    SELECT array_agg(organisation_id) INTO v_next
    FROM (SELECT o.organisation_id FROM o WHERE o.organisation_id IS NOT NULL
              AND (NOT EXISTS (SELECT FROM pace p WHERE p.organisation_id = o.organisation_id)
                   OR has_room(o.organisation_id))
          LIMIT p_most) s;
    -- If there are too few after the cursor, it goes on from the beginning, up to the cursor.
    IF coalesce(cardinality(v_next), 0) < p_most AND p_cursor > 0 THEN
        WITH RECURSIVE o (organisation_id, n) AS (
            (SELECT q.organisation_id, 1 FROM queue q
             WHERE q.runnable AND q.organisation_id <= p_cursor
             ORDER BY q.organisation_id LIMIT 1)
            UNION ALL
            SELECT (SELECT q.organisation_id FROM queue q
                    WHERE q.runnable AND q.organisation_id > o.organisation_id AND q.organisation_id <= p_cursor
                    ORDER BY q.organisation_id LIMIT 1), o.n + 1
            FROM o WHERE o.organisation_id IS NOT NULL AND o.n < p_most + c_passed)
        SELECT array_agg(organisation_id) INTO v_more
        FROM (SELECT o.organisation_id FROM o WHERE o.organisation_id IS NOT NULL
                  AND (NOT EXISTS (SELECT FROM pace p WHERE p.organisation_id = o.organisation_id)
                       OR has_room(o.organisation_id))
              LIMIT p_most - coalesce(cardinality(v_next), 0)) s;
    END IF;
    RETURN v_next || v_more;
END $$;

-- After a claim of p_n photos that found nothing: whether photos wait that can be claimed, or will be in a moment; and
-- where the next claim begins. That is after the organisations that this one looked at, also if none had room:
-- otherwise somebody who is in the way of all that comes after would stop them.
CREATE FUNCTION after_empty_claim(p_cursor bigint, p_n integer, OUT r_claimable boolean, OUT r_cursor bigint)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE c_passed constant integer := 100; v_next bigint[] := next_organisations(p_cursor, least(p_n, 16));
    v_goes_on boolean := false;
BEGIN
    r_cursor := v_next[cardinality(v_next)];
    IF r_cursor IS NULL THEN
        WITH RECURSIVE o (organisation_id, n) AS (
            (SELECT q.organisation_id, 1 FROM queue q
             WHERE q.runnable AND q.organisation_id > p_cursor
             ORDER BY q.organisation_id LIMIT 1)
            UNION ALL
            SELECT (SELECT q.organisation_id FROM queue q
                    WHERE q.runnable AND q.organisation_id > o.organisation_id
                    ORDER BY q.organisation_id LIMIT 1), o.n + 1
            FROM o WHERE o.organisation_id IS NOT NULL AND o.n < c_passed)
        SELECT CASE WHEN count(organisation_id) < c_passed THEN 0 ELSE max(organisation_id) END INTO r_cursor FROM o;
        v_goes_on := r_cursor > 0;
    END IF;
    r_claimable := EXISTS (
        SELECT FROM unnest(next_organisations(r_cursor, 16)) o JOIN account a ON a.organisation_id = o
        WHERE a.available > 0)
        OR v_goes_on OR EXISTS (SELECT FROM account WHERE resume_due);
END $$;
GRANT EXECUTE ON FUNCTION after_empty_claim TO photogate_worker;

-- Takes up to p_n photos. It is fair over organisations from p_cursor on, then over their queues. It may answer with
-- nothing although work is left (others have the rows locked): ask again.
CREATE FUNCTION claim(p_key uuid, p_n integer, p_cursor bigint, p_async_commit boolean)
RETURNS TABLE (r_job bigint, r_attempt integer, r_organisation bigint, r_event bigint, r_operation operation,
               r_photo uuid, r_key text, r_payload jsonb, r_bib_search boolean, r_face_search boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    c_queues constant integer := 4;                        -- of an organisation, in one claim
    v_most   integer := least(p_n, 16);                    -- organisations, in one claim
    v_worker bigint; v_n bigint; v_booked bigint;
    v_next   bigint[]; v_due bigint[]; v_zero bigint[];
    -- These go together: one element for each account that is locked.
    v_organisation bigint[]; v_row tid[]; v_available bigint[]; v_cursor bigint[]; v_entries bigint[]; v_day date[];
    v_at     timestamptz[]; v_steered boolean[];
    v_is_over boolean; v_is_kept boolean := false;
    -- These go together: one element for each queue that is locked. v_take is NULL where claim itself decides.
    v_queue  bigint[]; v_turn bigint[]; v_whose bigint[]; v_take bigint[];
    -- These go together: positions of queues with stretches, after v_after, and up to v_upto.
    v_of     bigint[]; v_after bigint[]; v_upto bigint[];
    v_owner  bigint[]; v_quota bigint[]; v_empty bigint[]; v_free bigint[];
    v_some_stretched boolean; v_taken record;
BEGIN
    SELECT leased_worker(p_key) INTO v_worker;
    IF p_async_commit THEN
        -- This is safe: PostgreSQL's log is written in order, so if a settle is durable, its claim is.
        PERFORM set_config('synchronous_commit', 'off', true);
    END IF;

    -- 1. Whose turn it is. And whose queues a top-up or a refund could not resume (v_due).
    SELECT next_organisations(p_cursor, v_most), (SELECT array_agg(organisation_id) FROM account WHERE resume_due)
    INTO v_next, v_due;
    v_next := v_next || v_due;
    IF v_next IS NULL THEN RETURN; END IF;

    -- 2. Their accounts, in id order, without waiting. If all are busy, it waits for the first. What must be done to an
    -- account before it can pay is done next, and then the accounts are read again: their rows have moved.
    -- (So is the clock: another day may have ended meanwhile.)
    LOOP
        SELECT array_agg(organisation_id), array_agg(row), array_agg(available), array_agg(queue_cursor),
               array_agg(entries), array_agg(day), array_agg(at), array_agg(steered),
               bool_or(day_ends_at <= at), array_agg(organisation_id) FILTER (WHERE resume_due)
        INTO v_organisation, v_row, v_available, v_cursor, v_entries, v_day, v_at, v_steered, v_is_over, v_due
        FROM (SELECT DISTINCT n FROM unnest(v_next) n ORDER BY n) w
        CROSS JOIN LATERAL (
            SELECT a.ctid AS row, a.* FROM account a WHERE a.organisation_id BETWEEN w.n AND w.n
            ORDER BY a.organisation_id DESC LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED) a
        CROSS JOIN LATERAL (SELECT book_at(a.moved_at) AS at) b;
        IF v_organisation IS NULL THEN
            v_next := v_next[1:1];
            PERFORM 1 FROM account WHERE organisation_id BETWEEN v_next[1] AND v_next[1]
            ORDER BY organisation_id DESC LIMIT 1 FOR NO KEY UPDATE;
            CONTINUE;
        END IF;
        EXIT WHEN (v_is_kept OR v_due IS NULL) AND NOT v_is_over;
        IF v_due IS NOT NULL THEN PERFORM resume_queues(v_due, NULL); END IF;
        IF v_is_over THEN PERFORM open_days(v_organisation, v_at); END IF;
        v_is_kept := true;
        v_next := v_organisation;
    END LOOP;

    -- 3. The locks of their queues, a few of each account that has credit, in turn. This is a statement of its own. The
    -- next one must see every job that was committed before the lock was ours. Otherwise a claim that meets an enqueue
    -- moves the head over jobs that its snapshot does not have.
    SELECT array_agg(queue_id) FILTER (WHERE NOT is_empty), array_agg(organisation_id) FILTER (WHERE NOT is_empty),
           array_agg(turn) FILTER (WHERE NOT is_empty), array_agg(queue_id) FILTER (WHERE is_empty),
           bool_or(stretched)
    INTO v_queue, v_whose, v_turn, v_empty, v_some_stretched FROM (
        SELECT l.queue_id, l.organisation_id, l.stretched, t.tail - h.passed = 0 AS is_empty,
               row_number() OVER (PARTITION BY l.organisation_id, t.tail - h.passed = 0
                                  ORDER BY l.queue_id <= l.cursor, l.queue_id) AS turn
        FROM (
            SELECT q.queue_id, q.stretched, o.organisation_id, o.cursor
            FROM unnest(v_organisation, v_available, v_cursor, v_steered)
                AS o (organisation_id, available, cursor, steered)
            CROSS JOIN LATERAL (
                SELECT * FROM (
                    (SELECT q.queue_id FROM queue q
                     WHERE q.organisation_id = o.organisation_id AND q.runnable AND q.queue_id > o.cursor
                     ORDER BY q.queue_id LIMIT c_queues)
                    UNION ALL
                    (SELECT q.queue_id FROM queue q
                     WHERE q.organisation_id = o.organisation_id AND q.runnable AND q.queue_id <= o.cursor
                     ORDER BY q.queue_id LIMIT c_queues)) w
                LIMIT c_queues) c
            JOIN queue q ON q.queue_id = c.queue_id AND q.runnable
            WHERE o.available > 0 AND NOT o.steered
            FOR NO KEY UPDATE OF q SKIP LOCKED) l
        CROSS JOIN LATERAL (
            SELECT h.head + h.not_waiting AS passed FROM queue_head h WHERE h.queue_id BETWEEN l.queue_id AND l.queue_id
            ORDER BY h.queue_id DESC LIMIT 1) h
        CROSS JOIN LATERAL (
            SELECT t.tail FROM queue_tail t WHERE t.queue_id BETWEEN l.queue_id AND l.queue_id
            ORDER BY t.queue_id DESC LIMIT 1) t) s;
    -- Those of organisations that have decided how their credits are spent, as they have decided (steering.sql).
    IF true = ANY (v_steered) THEN
        FOR v_i IN 1..cardinality(v_organisation) LOOP
            CONTINUE WHEN NOT v_steered[v_i] OR v_available[v_i] = 0;
            SELECT array_agg(r_queue) FILTER (WHERE NOT r_is_empty) AS queue,
                   array_agg(r_rank) FILTER (WHERE NOT r_is_empty) AS rank,
                   array_agg(r_queue) FILTER (WHERE r_is_empty) AS empty
            INTO v_taken FROM lock_steered_queues(v_organisation[v_i], v_cursor[v_i], c_queues);
            v_queue := v_queue || v_taken.queue;
            v_turn := v_turn || v_taken.rank;
            v_whose := v_whose || array_fill(v_organisation[v_i], ARRAY[coalesce(cardinality(v_taken.queue), 0)]);
            v_empty := v_empty || v_taken.empty;
        END LOOP;
    END IF;
    -- Shares of the batch for the accounts of these queues: one photo each, and the rest by weight. Where nobody has a
    -- weight, these are equal shares. A single account has all of it: that is written out, because it is so most of
    -- the time.
    IF cardinality(v_organisation) = 1 THEN
        v_owner := v_organisation;
        v_quota := ARRAY[least(p_n, v_available[1])];
    ELSE
        SELECT array_agg(least(u.available, 1 + (p_n - n) * upto / total - (p_n - n) * (upto - weight) / total)
                         ORDER BY u.organisation_id),
               array_agg(u.organisation_id ORDER BY u.organisation_id)
        INTO v_quota, v_owner FROM (
            SELECT w.*, sum(weight) OVER () AS total, sum(weight) OVER (ORDER BY w.organisation_id DESC) AS upto
            FROM (SELECT x.organisation_id, x.available, count(*) OVER () AS n,
                         CASE WHEN NOT x.steered OR p_n <= count(*) OVER () THEN 1 ELSE (
                             SELECT g.weight FROM steering g WHERE g.organisation_id = x.organisation_id) END AS weight
                  FROM unnest(v_organisation, v_available, v_steered) x (organisation_id, available, steered)
                  WHERE x.organisation_id = ANY (v_whose)) w) u;
    END IF;
    v_take := array_fill(NULL::bigint, ARRAY[coalesce(cardinality(v_queue), 0)]);
    IF true = ANY (v_steered) OR v_some_stretched THEN
        -- Organisations that have decided something, and those with stretches in the queues that are locked.
        SELECT array_agg(s.take ORDER BY k.n) INTO v_take
        FROM unnest(v_queue, v_whose) WITH ORDINALITY k (queue_id, organisation_id, n)
        LEFT JOIN (
            SELECT t.queue_id, t.take
            FROM (SELECT o.organisation_id, o.quota, array_agg(k.queue_id ORDER BY k.n) AS queues,
                         array_agg(k.rank ORDER BY k.n) AS ranks, a.steered
                  FROM unnest(v_owner, v_quota) o (organisation_id, quota)
                  JOIN unnest(v_organisation, v_steered) a (organisation_id, steered) USING (organisation_id)
                  JOIN unnest(v_queue, v_whose, v_turn) WITH ORDINALITY k (queue_id, organisation_id, rank, n)
                      USING (organisation_id)
                  JOIN queue q ON q.queue_id = k.queue_id
                  GROUP BY o.organisation_id, o.quota, a.steered HAVING a.steered OR bool_or(q.stretched)) g
            CROSS JOIN LATERAL unnest(g.queues, CASE
                WHEN g.steered THEN share_steered(g.organisation_id, g.quota, g.queues, g.ranks)
                ELSE share_equally(g.quota, g.queues, g.ranks) END) AS t (queue_id, take)) s USING (queue_id);
        FOR v_i IN 1..coalesce(cardinality(v_queue), 0) LOOP
            CONTINUE WHEN v_take[v_i] IS NULL OR v_take[v_i] = 0
                OR NOT (SELECT stretched FROM queue WHERE queue_id = v_queue[v_i]);
            SELECT * INTO v_taken FROM take_stretched(v_queue[v_i], v_take[v_i]);
            v_after := v_after || v_taken.r_after;
            v_upto := v_upto || v_taken.r_upto;
            v_of := v_of || array_fill(v_queue[v_i], ARRAY[cardinality(v_taken.r_upto)]);
        END LOOP;
    END IF;
    -- A claim that finds a queue empty marks it as drained, under the lock of its tail: otherwise an enqueue could
    -- append to it meanwhile, and not know that it has to take the mark away. Whoever has the lock now is appending.
    -- The claim that took the last photo did not mark it, because in a steady stream the next photo comes soon.
    IF v_empty IS NOT NULL THEN
        SELECT array_agg(queue_id) INTO v_free FROM (
            SELECT queue_id FROM queue_tail WHERE queue_id = ANY (v_empty) FOR NO KEY UPDATE SKIP LOCKED) s;
        UPDATE queue q SET drained = true
        FROM queue_head h JOIN queue_tail t USING (queue_id)
        WHERE q.queue_id = ANY (v_free) AND h.queue_id = q.queue_id AND t.tail - h.head - h.not_waiting = 0;
        -- Where nothing else was found, the next claim begins after these. Somebody may append to them for a long time,
        -- and they would be in the way of all queues after them.
        UPDATE account a SET queue_cursor = e.last FROM (
            SELECT q.organisation_id, (array_agg(q.queue_id ORDER BY q.queue_id <= o.cursor DESC, q.queue_id DESC))[1]
            FROM queue q JOIN unnest(v_organisation, v_cursor) o (organisation_id, cursor) USING (organisation_id)
            WHERE q.queue_id = ANY (v_empty) AND q.runnable AND (q.organisation_id = ANY (v_whose)) IS NOT TRUE
            GROUP BY q.organisation_id) e (organisation_id, last)
        WHERE a.organisation_id = e.organisation_id;
    END IF;

    -- 4. In one statement: move the heads (moved), open the reservations (flying, booked), and take one credit
    -- for each photo from its account (charged).
    RETURN QUERY
    WITH o AS MATERIALIZED (
        -- The accounts that are locked, and have photos to pay for.
        SELECT * FROM unnest(v_organisation, v_row, v_entries, v_day, v_at)
            AS u (organisation_id, row, entries, day, at)
        JOIN unnest(v_owner, v_quota) AS s (organisation_id, quota) USING (organisation_id)),
    wanted AS (
        -- The queues that are locked, each with an equal share of its organisation's quota. The event is read once for
        -- each queue. Reading it once for each photo was an eighth of all that a claim read (with 10,000 events).
        SELECT o.organisation_id, o.quota, q.queue_id, q.event_id, q.operation, h.row, h.head, h.not_waiting,
               e.bib_search, e.face_search, k.take AS steered_take, k.queue_id = ANY (v_of) AS is_taken, k.turn, k.n,
               least(t.tail - h.head - h.not_waiting,
                     ceil(o.quota::numeric / count(*) OVER (PARTITION BY o.organisation_id))::bigint) AS want
        FROM unnest(v_queue, v_turn, v_take) WITH ORDINALITY k (queue_id, turn, take, n)
        JOIN queue q USING (queue_id) JOIN o USING (organisation_id) JOIN event e USING (event_id)
        CROSS JOIN LATERAL (
            SELECT h.ctid AS row, h.* FROM queue_head h WHERE h.queue_id BETWEEN q.queue_id AND q.queue_id
            ORDER BY h.queue_id DESC LIMIT 1) h
        CROSS JOIN LATERAL (
            SELECT t.tail FROM queue_tail t WHERE t.queue_id BETWEEN q.queue_id AND q.queue_id
            ORDER BY t.queue_id DESC LIMIT 1) t
        WHERE k.turn <= o.quota OR k.take IS NOT NULL),
    taken AS MATERIALIZED (
        -- Shares were rounded up: here they are cut, in turn, to what the quota allows.
        SELECT *, coalesce(steered_take, greatest(0, least(want, quota - (
            sum(want) OVER (PARTITION BY organisation_id ORDER BY turn) - want)))::bigint) AS take
        FROM wanted),
    jobs AS MATERIALIZED (
        SELECT j.job_id, j.photo_id, j.run_id, j.payload, t.organisation_id, t.queue_id, t.event_id,
               t.operation, t.bib_search, t.face_search, p.key, p.version
        FROM taken t CROSS JOIN LATERAL (
            -- Where it has no stretches, the next in the queue. Otherwise as take_stretched says.
            SELECT t.head AS after, t.head + t.take AS upto WHERE t.is_taken IS NOT TRUE
            UNION ALL
            SELECT u.after, u.upto FROM unnest(v_of, v_after, v_upto) u (queue_id, after, upto)
            WHERE t.is_taken AND u.queue_id = t.queue_id) s
        CROSS JOIN LATERAL (
            -- The upper bound makes this a short range of the index. Without it, PostgreSQL sorted all waiting jobs.
            SELECT * FROM job j WHERE j.queue_id = t.queue_id AND j.position > s.after AND j.position <= s.upto
            ORDER BY j.position LIMIT s.upto - s.after) j
        CROSS JOIN LATERAL (SELECT x.key, x.version FROM photo x WHERE x.photo_id = j.photo_id LIMIT 1) p),
    moved AS (
        UPDATE queue_head h SET
            head = t.head + t.take,
            claimed = h.claimed + t.take,
            claimed_at = clock_timestamp()
        FROM taken t WHERE t.take > 0 AND t.is_taken IS NOT TRUE AND h.ctid = t.row),
    flying AS (
        INSERT INTO in_flight (job_id, organisation_id, queue_id, run_id, photo_id, worker_id, attempt, since, version)
        SELECT job_id, organisation_id, queue_id, run_id, photo_id, v_worker, 1, clock_timestamp(), version FROM jobs),
    booked AS (
        -- A trigger seals what is written here.
        INSERT INTO ledger (transaction_id, leg, movement, organisation_id, entry, amount, worker_id, at)
        SELECT j.job_id, 0, 'reserve', j.organisation_id,
               o.entries + row_number() OVER (PARTITION BY j.organisation_id ORDER BY j.job_id), 1, v_worker, o.at
        FROM jobs j JOIN o USING (organisation_id)),
    counted AS (
        -- The next claim begins after the last queue, in turn, that had the largest share: those after it had less.
        SELECT organisation_id, sum(take) AS n, (array_agg(queue_id ORDER BY take DESC, turn DESC, n DESC))[1] AS cursor
        FROM taken WHERE take > 0 GROUP BY organisation_id),
    charged AS (
        UPDATE account a SET
            available = a.available - c.n,
            reserved = a.reserved + c.n,
            entries = a.entries + c.n,
            queue_cursor = c.cursor,
            moved_at = o.at
        FROM counted c JOIN o USING (organisation_id) WHERE a.ctid = o.row),
    runs AS MATERIALIZED (
        -- What each run uses, and its row of this day, if it has one. The account's lock protects it.
        SELECT c.*, o.day, o.at, o.entries + (sum(c.n) OVER (PARTITION BY organisation_id))::bigint AS entry, u.row
        FROM (SELECT run_id, organisation_id, queue_id, count(*)::integer AS n
              FROM jobs GROUP BY run_id, organisation_id, queue_id) c
        JOIN o USING (organisation_id)
        LEFT JOIN LATERAL (
            SELECT u.ctid AS row FROM usage u WHERE u.run_id BETWEEN c.run_id AND c.run_id AND u.day = o.day
            ORDER BY u.run_id DESC, u.day DESC LIMIT 1) u ON true),
    used_more AS (
        UPDATE usage u SET
            claimed = u.claimed + r.n,
            first_claimed_at = coalesce(u.first_claimed_at, r.at),
            last_claimed_at = r.at,
            claimed_entry = r.entry
        FROM runs r WHERE u.ctid = r.row),
    used AS (
        INSERT INTO usage (run_id, day, organisation_id, queue_id, claimed, first_claimed_at, last_claimed_at,
            claimed_entry)
        SELECT run_id, day, organisation_id, queue_id, n, at, at, entry FROM runs WHERE row IS NULL)
    SELECT j.job_id, 1, j.organisation_id, j.event_id, j.operation, j.photo_id, j.key, j.payload, j.bib_search,
           j.face_search
    FROM jobs j;

    -- 5. Still under the account's lock: what has nothing to spend any more is paused, in this same transaction.
    GET DIAGNOSTICS v_n = ROW_COUNT;
    SELECT array_agg(w.n) FILTER (WHERE a.available = 0 OR a.steered), sum(a.entries - w.entries) INTO v_zero, v_booked
    FROM unnest(v_organisation, v_entries) w (n, entries)
    CROSS JOIN LATERAL (
        SELECT a.available, a.entries, a.steered FROM account a WHERE a.organisation_id BETWEEN w.n AND w.n
        ORDER BY a.organisation_id DESC LIMIT 1) a;
    IF v_booked <> v_n THEN
        RAISE EXCEPTION 'the accounts did not pay for the photos of this claim' USING ERRCODE = 'assert_failure';
    END IF;
    IF v_zero IS NOT NULL THEN PERFORM pause_queues(v_zero, NULL); END IF;
END $$;
GRANT EXECUTE ON FUNCTION claim TO photogate_worker;
