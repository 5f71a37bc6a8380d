-- Enqueue: photos are appended at the tail of their event's queue. One that is known is left out, and the answer says
-- why.
--
-- Enqueue takes the lock of its queue's tail (FOR NO KEY UPDATE), and no account. Under that lock positions are dense:
-- position order is commit order, and no position is ever left out. So a count of rows shows that no job is lost.
-- Claims need the queue's own lock. Enqueue takes that one only if the queue was drained, to say that it is not any
-- more. So enqueues and claims of a busy queue do not wait for each other, and claims do not miss it.
-- Lock order: the tail, then the queue.
--
-- Each lookup reads few rows of a large table. Three things keep PostgreSQL from reading more: LATERAL with LIMIT 1,
-- enable_seqscan = off, and columns that are hidden from the wrong index (event_id + 0). The cost depends on the number
-- of photos in the call.

-- Photos that wait in an organisation's queues, without those of deleted events, which never run. r_runs: those that
-- nobody's hold keeps. It runs with the rights of the caller. (In PL/pgSQL, because a function in SQL would be planned
-- in each call.)
CREATE FUNCTION waiting_by_queue(p_organisation bigint)
RETURNS TABLE (r_event bigint, r_operation operation, r_waiting bigint, r_runs bigint)
LANGUAGE plpgsql STABLE SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan AS $$
BEGIN
    RETURN QUERY
    SELECT w.event_id, w.operation, sum(w.waiting)::bigint, sum(w.runs)::bigint
    FROM (
        SELECT q.event_id, q.operation, t.tail - h.head - h.not_waiting AS waiting,
               CASE WHEN q.held THEN 0 ELSE t.tail - h.head - h.not_waiting END AS runs
        FROM queue q
        -- From the end, as in claim.sql.
        CROSS JOIN LATERAL (
            SELECT x.head, x.not_waiting FROM queue_head x WHERE x.queue_id BETWEEN q.queue_id AND q.queue_id
            ORDER BY x.queue_id DESC LIMIT 1) h
        CROSS JOIN LATERAL (
            SELECT x.tail FROM queue_tail x WHERE x.queue_id BETWEEN q.queue_id AND q.queue_id
            ORDER BY x.queue_id DESC LIMIT 1) t
        WHERE q.organisation_id = p_organisation AND NOT q.drained
          AND (SELECT e.deleted_at FROM event e WHERE e.event_id = q.event_id) IS NULL
        UNION ALL
        -- Those that are queued when their AI rotation has ended. If that is held, only photos follow that it has
        -- taken already. Deleted events have none.
        SELECT q.event_id, q.operation, f.waiting, CASE WHEN q.held THEN 0 WHEN a.held THEN f.taken ELSE f.waiting END
        FROM (SELECT x.queue_id, x.after_queue, count(*) AS waiting,
                     count(*) FILTER (WHERE x.after_position <= h.head) AS taken
              FROM follow_up x JOIN queue_head h ON h.queue_id = x.after_queue
              WHERE x.organisation_id = p_organisation GROUP BY x.queue_id, x.after_queue) f
        JOIN queue q USING (queue_id) JOIN queue a ON a.queue_id = f.after_queue) w
    GROUP BY w.event_id, w.operation;
END $$;
GRANT EXECUTE ON FUNCTION waiting_by_queue TO photogate_app, photogate_organisation;

CREATE FUNCTION waiting_photos(p_organisation bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT coalesce(sum(w.r_waiting), 0)::bigint FROM waiting_by_queue(p_organisation) w
$$;

-- The runs that have these photos, each once, those with photos that are not done first (p_open, r_open: how many of
-- them), and then the latest first. At most 101: who shows 100 sees that there are more.
CREATE FUNCTION runs_to_ask(p_runs bigint[], p_open boolean[], OUT r_runs bigint[], OUT r_open integer)
LANGUAGE sql IMMUTABLE SET search_path = photogate, pg_temp AS $$
    SELECT coalesce(array_agg(run ORDER BY is_open DESC, run DESC), '{}'), count(*) FILTER (WHERE is_open)
    FROM (SELECT run, bool_or(open) AS is_open FROM unnest(p_runs, p_open) u (run, open)
          WHERE run IS NOT NULL GROUP BY run ORDER BY is_open DESC, run DESC LIMIT 101) r
$$;

-- Appends the photos that may be queued, in the order given, and writes the run; if none may, there is no run (NULL).
-- Returns how many were taken, why the others were not, and in which runs these are (runs_to_ask). p_take: 'new' takes
-- photos that were never queued, 'listed' also those whose file has changed since their latest job was claimed
-- (r_changed), 'failed' those whose latest job failed, 'undecided' also those that found no answer. p_unknown: how
-- many more were asked for, but are not photos of this event. p_payloads: one for each photo, or NULL; a photo that is
-- queued again keeps the payload that its latest job has. r_woke: the photos can be claimed, so tell the workers.
CREATE FUNCTION append_jobs(p_queue queue, p_photos uuid[], p_actor text, p_take text, p_unknown integer,
    p_payloads jsonb[], p_urgent boolean, OUT r_run bigint, OUT r_queued integer, OUT r_repeated integer,
    OUT r_waiting integer, OUT r_processed integer, OUT r_undecided integer, OUT r_failed integer,
    OUT r_skipped integer, OUT r_changed integer, OUT r_woke boolean, OUT r_runs bigint[], OUT r_open integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    v_row tid; v_tail bigint; v_photo uuid[]; v_retry smallint[]; v_payload jsonb[]; v_some_follow boolean;
    v_runs bigint[]; v_open boolean[];
BEGIN
    -- Whatever another enqueue of these photos did is committed from here on, and the next statement sees it.
    -- The row is looked for from the end, as in claim.sql.
    SELECT ctid, tail INTO v_row, v_tail FROM queue_tail
    WHERE queue_id BETWEEN p_queue.queue_id AND p_queue.queue_id ORDER BY queue_id DESC LIMIT 1 FOR NO KEY UPDATE;
    v_some_follow := EXISTS (SELECT FROM follow_up WHERE queue_id = p_queue.queue_id);
    WITH asked AS (
        -- Each photo once, where it was first named.
        SELECT DISTINCT ON (photo_id) photo_id, payload, n
        FROM unnest(p_photos, p_payloads) WITH ORDINALITY u (photo_id, payload, n) ORDER BY photo_id, n),
    seen AS (
        -- What became of the photo's latest job in this queue. All NULL: it has none.
        SELECT a.photo_id, a.n, CASE WHEN p_take IN ('new', 'listed') THEN coalesce(a.payload, j.payload)
                                     ELSE j.payload END AS payload, j.retry, j.run_id, o.state,
               CASE WHEN p_take = 'listed' THEN coalesce(o.version < (
                   SELECT p.version FROM photo p WHERE p.photo_id = a.photo_id LIMIT 1), false)
                    ELSE false END AS changed,
               coalesce(stretch_kind_at(j.queue_id, j.position) = 'skipped', false) AS skipped,
               -- It waits for its AI rotation, in this run.
               CASE WHEN v_some_follow THEN run_followed(p_queue.queue_id, a.photo_id) END AS follows
        FROM asked a
        LEFT JOIN LATERAL latest_job(a.photo_id, p_queue.queue_id) j ON true
        LEFT JOIN LATERAL (
            SELECT x.state, x.version FROM outcome x WHERE x.job_id = j.job_id LIMIT 1) o ON true),
    sorted AS (
        SELECT *, CASE p_take WHEN 'new' THEN retry IS NULL AND follows IS NULL
                              WHEN 'listed' THEN (retry IS NULL OR changed) AND follows IS NULL
                              WHEN 'failed' THEN coalesce(state IN ('failed', 'quarantined'), false)
                              WHEN 'undecided' THEN coalesce(state IN ('undecided', 'failed', 'quarantined'), false)
                  END AS take
        FROM seen)
    SELECT array_agg(photo_id ORDER BY n) FILTER (WHERE take),
           array_agg((coalesce(retry, -1) + 1)::smallint ORDER BY n) FILTER (WHERE take),
           array_agg(payload ORDER BY n) FILTER (WHERE take),
           cardinality(p_photos) - count(*),
           count(*) FILTER (WHERE is_open),
           count(*) FILTER (WHERE NOT take AND follows IS NULL AND state IN ('processed', 'duplicate')),
           count(*) FILTER (WHERE NOT take AND follows IS NULL AND state = 'undecided'),
           count(*) FILTER (WHERE NOT take AND follows IS NULL AND state IN ('failed', 'quarantined')),
           count(*) FILTER (WHERE NOT take AND follows IS NULL AND skipped), count(*) FILTER (WHERE take AND changed),
           array_agg(coalesce(follows, run_id)) FILTER (WHERE NOT take), array_agg(is_open) FILTER (WHERE NOT take)
    INTO v_photo, v_retry, v_payload, r_repeated, r_waiting, r_processed, r_undecided, r_failed, r_skipped, r_changed,
        v_runs, v_open
    FROM sorted CROSS JOIN LATERAL (
        SELECT NOT take AND (follows IS NOT NULL OR retry IS NOT NULL AND state IS NULL AND NOT skipped) AS is_open) w;
    r_queued := coalesce(cardinality(v_photo), 0);
    r_woke := false;
    SELECT * INTO r_runs, r_open FROM runs_to_ask(v_runs, v_open);
    IF r_queued > 0 THEN
        INSERT INTO run (organisation_id, event_id, queue_id, actor, retry, asked, queued, first_position)
        VALUES (p_queue.organisation_id, p_queue.event_id, p_queue.queue_id, p_actor,
                p_take NOT IN ('new', 'listed') OR r_changed > 0,
                cardinality(p_photos) + p_unknown, r_queued, v_tail + 1)
        RETURNING run_id INTO r_run;
        -- Dense: position order is commit order, and no position is ever left out.
        INSERT INTO job (queue_id, position, photo_id, run_id, retry, payload)
        SELECT p_queue.queue_id, v_tail + n, photo_id, r_run, retry, payload
        FROM unnest(v_photo, v_retry, v_payload) WITH ORDINALITY u (photo_id, retry, payload, n);
        UPDATE queue_tail SET tail = tail + r_queued WHERE ctid = v_row;
        -- A claim says that a queue is drained only under the lock of its tail. So this sees what the last claim said.
        UPDATE queue SET drained = false, filled_at = clock_timestamp() WHERE queue_id = p_queue.queue_id AND drained;
        IF p_urgent THEN
            PERFORM 1 FROM queue WHERE queue_id = p_queue.queue_id FOR NO KEY UPDATE;
            PERFORM make_urgent(p_queue.queue_id, r_run, v_tail + 1, v_tail + r_queued, p_actor);
        END IF;
        r_woke := NOT p_queue.held AND p_queue.paused_since IS NULL;
    END IF;
END $$;

-- Keeps what the store's listing says of photos. One whose file is not the one that was listed before has changed: its
-- version grows. (What was queued by its key alone has no listing to compare with. It gets its first one here.)
CREATE FUNCTION note_listing(p_event bigint, p_keys text[], p_listed text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    WITH told AS MATERIALIZED (
        SELECT DISTINCT ON (key) key, listed FROM unnest(p_keys, p_listed) u (key, listed)
        WHERE listed IS NOT NULL ORDER BY key),
    other AS MATERIALIZED (
        -- In order of keys, as new photos are inserted. Two syncs at once count one change once: the second one waits
        -- here, and then finds the listing that it has itself.
        SELECT x.photo_id, t.listed FROM told t CROSS JOIN LATERAL (
            SELECT p.photo_id FROM photo p
            WHERE p.event_id = p_event AND p.key = t.key AND p.listed IS DISTINCT FROM t.listed
            LIMIT 1 FOR NO KEY UPDATE) x)
    UPDATE photo p SET listed = o.listed, version = p.version + (p.listed IS NOT NULL)::int
    FROM other o WHERE p.photo_id = o.photo_id
$$;

-- Makes rows of the photos that are new, and keeps what the store's listing says. p_ids: fresh ids.
CREATE FUNCTION know_photos(p_event bigint, p_keys text[], p_ids uuid[], p_payloads jsonb[], p_listed text[])
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF cardinality(p_keys) <> cardinality(p_ids) OR cardinality(p_keys) <> cardinality(p_payloads)
        OR cardinality(p_keys) <> cardinality(p_listed) OR cardinality(p_keys) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call, and an id and a payload for each' USING ERRCODE = 'PG006';
    END IF;
    -- Without a lock: whoever writes a run is asked once more.
    PERFORM refuse_archived(p_event);
    -- Two operations of one event may bring the same new photos at once: insert in one order, or they deadlock.
    INSERT INTO photo (photo_id, event_id, key, listed)
    SELECT DISTINCT ON (key) id, p_event, key, listed FROM unnest(p_ids, p_keys, p_listed) u (id, key, listed)
    WHERE EXISTS (SELECT FROM event WHERE event_id = p_event)
    ORDER BY key ON CONFLICT (event_id, key) DO NOTHING;
    IF p_listed IS NOT NULL THEN PERFORM note_listing(p_event, p_keys, p_listed); END IF;
END $$;

-- Queues photos of an event. A photo that is queued, done, undecided, failed or skipped already is left as it is, and
-- counted. r_run: the run of those that are new, NULL if none is. r_runs, r_open: where the others are (runs_to_ask).
-- p_ids are fresh ids for the photos that are new. p_payloads: what the worker gets beside each key, or NULL.
-- p_listed: what the store's listing says of each file, if this is a sync, or NULL. A photo whose file has changed
-- since it was claimed is queued again then (r_changed, also counted in r_queued). r_woke: they can be claimed, the
-- workers should be told. r_undo: the number by which this can be taken back (undo.sql).
CREATE FUNCTION enqueue(p_event bigint, p_operation operation, p_keys text[], p_ids uuid[], p_actor text,
    p_payloads jsonb[] DEFAULT NULL, p_listed text[] DEFAULT NULL, p_urgent boolean DEFAULT false, OUT r_run bigint,
    OUT r_queued integer, OUT r_repeated integer, OUT r_waiting integer, OUT r_processed integer,
    OUT r_undecided integer, OUT r_failed integer, OUT r_skipped integer, OUT r_changed integer,
    OUT r_available bigint, OUT r_ahead bigint, OUT r_woke boolean, OUT r_undo bigint, OUT r_runs bigint[],
    OUT r_open integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_queue queue; v_photos uuid[];
BEGIN
    PERFORM know_photos(p_event, p_keys, p_ids, p_payloads, p_listed);
    SELECT q.* INTO v_queue FROM queue q WHERE event_id = p_event AND operation = p_operation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    SELECT array_agg(p.photo_id ORDER BY u.n) INTO v_photos
    FROM unnest(p_keys) WITH ORDINALITY u (key, n)
    CROSS JOIN LATERAL (SELECT x.photo_id FROM photo x WHERE x.event_id = p_event AND x.key = u.key LIMIT 1) p;
    SELECT * INTO r_run, r_queued, r_repeated, r_waiting, r_processed, r_undecided, r_failed, r_skipped, r_changed,
        r_woke, r_runs, r_open
    FROM append_jobs(v_queue, coalesce(v_photos, '{}'), p_actor,
                     CASE WHEN p_listed IS NULL THEN 'new' ELSE 'listed' END, 0, p_payloads, p_urgent);
    IF r_queued > 0 THEN r_undo := note_undo(v_queue, 'queue', p_actor, ARRAY[r_run], NULL, NULL, NULL); END IF;
    -- Information for the caller, read without a lock: the next claim may change it.
    SELECT a.available, waiting_photos(a.organisation_id) INTO r_available, r_ahead
    FROM account a WHERE a.organisation_id BETWEEN v_queue.organisation_id AND v_queue.organisation_id
    ORDER BY a.organisation_id DESC LIMIT 1;
END $$;
GRANT EXECUTE ON FUNCTION enqueue TO photogate_app;

-- Queues failed photos again, because a person asked. Each reserves a credit anew when it is claimed. A photo that is
-- undecided is taken only with p_undecided: the same network would answer the same.
CREATE FUNCTION retry(p_event bigint, p_operation operation, p_photos uuid[], p_actor text,
    p_undecided boolean DEFAULT false, OUT r_run bigint, OUT r_queued integer, OUT r_skipped integer,
    OUT r_available bigint, OUT r_ahead bigint, OUT r_woke boolean, OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_queue queue; v_photos uuid[];
BEGIN
    IF cardinality(p_photos) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006';
    END IF;
    SELECT q.* INTO v_queue FROM queue q WHERE event_id = p_event AND operation = p_operation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    PERFORM refuse_archived(p_event);
    -- Photos of other events are unknown here.
    SELECT array_agg(p.photo_id ORDER BY u.n) INTO v_photos
    FROM unnest(p_photos) WITH ORDINALITY u (photo_id, n)
    CROSS JOIN LATERAL (
        SELECT x.photo_id FROM photo x WHERE x.photo_id = u.photo_id AND x.event_id + 0 = p_event LIMIT 1) p;
    SELECT x.r_run, x.r_queued, x.r_woke INTO r_run, r_queued, r_woke
    FROM append_jobs(v_queue, coalesce(v_photos, '{}'), p_actor,
                     CASE WHEN p_undecided THEN 'undecided' ELSE 'failed' END,
                     cardinality(p_photos) - coalesce(cardinality(v_photos), 0), NULL, false) x;
    IF r_queued > 0 THEN r_undo := note_undo(v_queue, 'retry', p_actor, ARRAY[r_run], NULL, NULL, NULL); END IF;
    r_skipped := cardinality(p_photos) - r_queued;
    -- Information for the caller, read without a lock: the next claim may change it.
    SELECT a.available, waiting_photos(a.organisation_id) INTO r_available, r_ahead
    FROM account a WHERE a.organisation_id BETWEEN v_queue.organisation_id AND v_queue.organisation_id
    ORDER BY a.organisation_id DESC LIMIT 1;
END $$;
GRANT EXECUTE ON FUNCTION retry TO photogate_app;

-- What queueing these photos would do: nothing is written, and no lock is taken, so what is asked about may change
-- meanwhile. It is not enqueue rolled back: that held the queue's lock while a claim waited for it.
CREATE FUNCTION plan_enqueue(p_event bigint, p_operation operation, p_keys text[], p_listed text[] DEFAULT NULL,
    p_both boolean DEFAULT false,
    OUT r_queued integer, OUT r_repeated integer, OUT r_waiting integer, OUT r_processed integer,
    OUT r_undecided integer, OUT r_failed integer, OUT r_skipped integer, OUT r_changed integer,
    OUT r_following integer, OUT r_available bigint, OUT r_ahead bigint, OUT r_runs bigint[], OUT r_open integer)
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_queue queue; v_first bigint; v_some_follow boolean; v_runs bigint[]; v_open boolean[];
BEGIN
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    PERFORM refuse_archived(p_event);
    v_some_follow := EXISTS (SELECT FROM follow_up WHERE queue_id = v_queue.queue_id);
    IF p_both AND p_operation = 'photo_processing' THEN
        SELECT queue_id INTO v_first FROM queue WHERE event_id = p_event AND operation = 'ai_rotation';
    END IF;
    -- The same lookups as in append_jobs, for 'new' and 'listed'. A test compares what is planned with what is done.
    SELECT count(*) FILTER (WHERE c.take), cardinality(p_keys) - count(*),
           count(*) FILTER (WHERE s.is_open),
           count(*) FILTER (WHERE NOT c.take AND c.follows IS NULL AND o.state IN ('processed', 'duplicate')),
           count(*) FILTER (WHERE NOT c.take AND c.follows IS NULL AND o.state = 'undecided'),
           count(*) FILTER (WHERE NOT c.take AND c.follows IS NULL AND o.state IN ('failed', 'quarantined')),
           count(*) FILTER (WHERE c.follows IS NULL AND s.kind = 'skipped'),
           count(*) FILTER (WHERE c.take AND j.retry IS NOT NULL),
           count(*) FILTER (WHERE c.take AND v_first IS NOT NULL AND first_is_open(
               p.photo_id, v_first, a.listed IS NOT NULL, c.file_changed)),
           array_agg(coalesce(c.follows, j.run_id)) FILTER (WHERE NOT c.take),
           array_agg(s.is_open) FILTER (WHERE NOT c.take)
    INTO r_queued, r_repeated, r_waiting, r_processed, r_undecided, r_failed, r_skipped, r_changed, r_following,
        v_runs, v_open
    FROM (SELECT DISTINCT ON (key) key, listed FROM unnest(p_keys, p_listed) u (key, listed) ORDER BY key) a
    LEFT JOIN LATERAL (
        SELECT x.photo_id, x.listed, x.version FROM photo x
        WHERE x.event_id = p_event AND x.key = a.key LIMIT 1) p ON true
    LEFT JOIN LATERAL latest_job(p.photo_id, v_queue.queue_id) j ON true
    LEFT JOIN LATERAL (
        SELECT x.state, x.version FROM outcome x WHERE x.job_id = j.job_id LIMIT 1) o ON true
    -- The listing that a sync would keep (note_listing), and then the version.
    CROSS JOIN LATERAL (
        SELECT *, (j.retry IS NULL OR changed) AND follows IS NULL AS take
        FROM (SELECT coalesce(a.listed <> p.listed, false) AS file_changed,
                     a.listed IS NOT NULL AND coalesce(o.version < p.version OR a.listed <> p.listed, false)
                         AND o.state IS NOT NULL AS changed,
                     CASE WHEN v_some_follow THEN run_followed(v_queue.queue_id, p.photo_id) END AS follows) x) c
    CROSS JOIN LATERAL (
        SELECT x.kind, c.follows IS NOT NULL OR NOT c.take AND j.retry IS NOT NULL AND o.state IS NULL
                           AND x.kind IS DISTINCT FROM 'skipped' AS is_open
        FROM (SELECT stretch_kind_at(j.queue_id, j.position) AS kind) x) s;
    SELECT * INTO r_runs, r_open FROM runs_to_ask(v_runs, v_open);
    SELECT a.available, waiting_photos(a.organisation_id) + r_queued INTO r_available, r_ahead
    FROM account a WHERE a.organisation_id BETWEEN v_queue.organisation_id AND v_queue.organisation_id
    ORDER BY a.organisation_id DESC LIMIT 1;
END $$;
GRANT EXECUTE ON FUNCTION plan_enqueue TO photogate_app;

-- The trace that an enqueuer's call belonged to goes with its photos, so that their work is seen in it.
CREATE FUNCTION trace_runs(p_runs bigint[], p_trace text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE run SET trace = p_trace WHERE run_id = ANY (p_runs)
$$;
GRANT EXECUTE ON FUNCTION trace_runs TO photogate_app;
