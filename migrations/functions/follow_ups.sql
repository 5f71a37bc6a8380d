-- Follow-ups: photo processing of photos whose AI rotation comes first (a call of both operations).
--
-- A follow-up stands for one photo. It names the job of AI rotation that it waits for, and is appended to the queue of
-- photo processing when that job has ended, however it ended: processed, undecided, a duplicate, failed, quarantined,
-- or skipped. So no photo is lost, and none is looked at before. A settlement writes nothing for it: what has ended is
-- found from the head of the queue of AI rotation, and its stretches.
-- Whoever cancels the run of the job, or takes it back, takes the follow-up away.
--
-- Lock order: whoever writes follow-ups of a queue holds its tail, as whoever appends. follow() takes no account, and
-- passes over tails that are locked (SKIP LOCKED): a worker calls it again a moment later.

-- Queues photos for both operations: AI rotation now, and photo processing after it, photo by photo. A photo whose AI
-- rotation has ended before is queued for photo processing at once. The answer has a row for each operation, in the
-- columns of enqueue(); r_following: how many of r_queued are appended later.
CREATE FUNCTION enqueue_both(p_event bigint, p_keys text[], p_ids uuid[], p_actor text,
    p_payloads jsonb[] DEFAULT NULL, p_listed text[] DEFAULT NULL, p_urgent boolean DEFAULT false)
RETURNS TABLE (r_operation operation, r_run bigint, r_queued integer, r_following integer, r_repeated integer,
               r_waiting integer, r_processed integer, r_undecided integer, r_failed integer, r_skipped integer,
               r_changed integer, r_available bigint, r_ahead bigint, r_woke boolean, r_undo bigint,
               r_runs bigint[], r_open integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    v_take  text := CASE WHEN p_listed IS NULL THEN 'new' ELSE 'listed' END;
    v_first queue; v_then queue; v_photos uuid[]; v_payloads jsonb[]; v_written follow_up[]; v_a record;
    v_b record; v_available bigint; v_ahead bigint; v_undo bigint;
BEGIN
    PERFORM know_photos(p_event, p_keys, p_ids, p_payloads, p_listed);
    -- Both tails, in the order of delete_event.
    PERFORM 1 FROM queue_tail t JOIN queue q USING (queue_id)
    WHERE q.event_id = p_event ORDER BY queue_id FOR NO KEY UPDATE OF t;
    SELECT q.* INTO v_first FROM queue q WHERE event_id = p_event AND operation = 'ai_rotation';
    SELECT q.* INTO v_then FROM queue q WHERE event_id = p_event AND operation = 'photo_processing';
    -- A later statement than the locks: nobody would delete what is written now of a deleted event.
    IF NOT EXISTS (SELECT FROM event WHERE event_id = p_event AND deleted_at IS NULL) THEN
        RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002';
    END IF;
    SELECT array_agg(p.photo_id ORDER BY u.n), array_agg(u.payload ORDER BY u.n) INTO v_photos, v_payloads
    FROM unnest(p_keys, p_payloads) WITH ORDINALITY u (key, payload, n)
    CROSS JOIN LATERAL (SELECT x.photo_id FROM photo x WHERE x.event_id = p_event AND x.key = u.key LIMIT 1) p;
    v_photos := coalesce(v_photos, '{}');
    SELECT * INTO v_a FROM append_jobs(v_first, v_photos, p_actor, v_take, 0,
                                       CASE WHEN p_payloads IS NOT NULL THEN v_payloads END, p_urgent);
    -- A later statement: it sees these jobs. What photo processing would take, and whose AI rotation has not ended.
    WITH taken AS (
        SELECT DISTINCT ON (u.photo_id) u.photo_id, u.payload, r.position, r.job_id
        FROM unnest(v_photos, v_payloads) u (photo_id, payload)
        CROSS JOIN LATERAL latest_job(u.photo_id, v_first.queue_id) r
        WHERE NOT EXISTS (SELECT FROM outcome o WHERE o.job_id = r.job_id)
            AND stretch_kind_at(r.queue_id, r.position) IS DISTINCT FROM 'skipped'
            AND takes_job(u.photo_id, v_then.queue_id, v_take)),
    written AS (
        INSERT INTO follow_up (queue_id, photo_id, organisation_id, after_queue, after_position, after_job, actor, take,
            urgent, payload)
        SELECT v_then.queue_id, photo_id, v_then.organisation_id, v_first.queue_id, position, job_id, p_actor, v_take,
               p_urgent, payload
        FROM taken ON CONFLICT DO NOTHING
        -- Without the payloads: these are kept for undo.
        RETURNING (queue_id, photo_id, organisation_id, after_queue, after_position, after_job, actor, take, urgent,
                   NULL)::follow_up AS one)
    SELECT array_agg(one) INTO v_written FROM written;
    -- The rest is queued now, or it is said why not.
    SELECT array_agg(u.photo_id ORDER BY n), array_agg(u.payload ORDER BY n) INTO v_photos, v_payloads
    FROM unnest(v_photos, v_payloads) WITH ORDINALITY u (photo_id, payload, n)
    WHERE NOT EXISTS (SELECT FROM unnest(v_written) f WHERE f.photo_id = u.photo_id);
    SELECT * INTO v_b FROM append_jobs(v_then, coalesce(v_photos, '{}'), p_actor, v_take, 0,
                                       CASE WHEN p_payloads IS NOT NULL THEN coalesce(v_payloads, '{}') END, p_urgent);
    IF v_a.r_queued + v_b.r_queued > 0 OR v_written IS NOT NULL THEN
        v_undo := note_undo(v_first, 'queue', p_actor, array_remove(ARRAY[v_a.r_run, v_b.r_run], NULL), NULL, NULL,
                            v_written);
    END IF;
    -- Information for the caller, read without a lock: the next claim may change it.
    SELECT a.available, waiting_photos(a.organisation_id) INTO v_available, v_ahead
    FROM account a WHERE a.organisation_id BETWEEN v_then.organisation_id AND v_then.organisation_id
    ORDER BY a.organisation_id DESC LIMIT 1;
    RETURN QUERY VALUES
        ('ai_rotation'::operation, v_a.r_run, v_a.r_queued, 0, v_a.r_repeated, v_a.r_waiting, v_a.r_processed,
         v_a.r_undecided, v_a.r_failed, v_a.r_skipped, v_a.r_changed, v_available, v_ahead, v_a.r_woke,
         v_undo, v_a.r_runs, v_a.r_open),
        ('photo_processing', v_b.r_run, v_b.r_queued + coalesce(cardinality(v_written), 0),
         coalesce(cardinality(v_written), 0), v_b.r_repeated, v_b.r_waiting, v_b.r_processed, v_b.r_undecided,
         v_b.r_failed, v_b.r_skipped, v_b.r_changed, v_available, v_ahead, v_b.r_woke, v_undo, v_b.r_runs,
         v_b.r_open);
END $$;
GRANT EXECUTE ON FUNCTION enqueue_both TO photogate_app;

-- The run of the AI rotation that a photo waits for, before it is queued for photo processing. NULL: it waits for none.
CREATE FUNCTION run_followed(p_queue bigint, p_photo uuid) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT j.run_id FROM follow_up f JOIN job j ON j.queue_id = f.after_queue AND j.position = f.after_position
    WHERE f.queue_id = p_queue AND f.photo_id = p_photo LIMIT 1
$$;

-- Whether photo processing would take a photo: 'new' if it was never queued, 'listed' also if its file has changed
-- since.
CREATE FUNCTION takes_job(p_photo uuid, p_queue bigint, p_take text) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT p_take = 'listed' AND coalesce((
            SELECT o.version < p.version FROM outcome o, photo p
            WHERE o.job_id = j.job_id AND p.photo_id = p_photo LIMIT 1), false)
        FROM latest_job(p_photo, p_queue) j), true)
$$;

-- Whether a photo's AI rotation would be waited for, if both operations were queued now (plan_enqueue): it was never
-- queued, or would be queued again because its file has changed, or has not ended. A photo that is not known yet is
-- NULL.
CREATE FUNCTION first_is_open(p_photo uuid, p_queue bigint, p_is_sync boolean, p_changed boolean) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce((
        SELECT CASE WHEN o.job_id IS NOT NULL THEN p_is_sync AND (p_changed OR o.version < (
                        SELECT p.version FROM photo p WHERE p.photo_id = p_photo LIMIT 1))
                    ELSE stretch_kind_at(j.queue_id, j.position) IS DISTINCT FROM 'skipped' END
        FROM latest_job(p_photo, p_queue) j
        LEFT JOIN LATERAL (
            SELECT x.job_id, x.version FROM outcome x WHERE x.job_id = j.job_id LIMIT 1) o ON true), true)
$$;

-- The first p_n follow-ups whose AI rotation does not wait any more: where they are, and when it ended. r_settled_at is
-- NULL, and r_has_ended true, if it was skipped. p_head is read before: it only grows.
CREATE FUNCTION reached_follow_ups(p_after bigint, p_head bigint, p_n integer)
RETURNS TABLE (r_row tid, r_has_ended boolean, r_settled_at timestamptz)
LANGUAGE sql STABLE SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    SELECT f.row, (SELECT true FROM flight_of(f.after_job) LIMIT 1) IS NULL, o.settled_at
    FROM (
        -- Up to the head, but for those that wait although the head has passed them; and those after it that are
        -- claimed already, or skipped.
        (SELECT x.ctid AS row, x.after_job, x.after_position FROM follow_up x
         WHERE x.after_queue = p_after AND x.after_position <= p_head
             AND stretch_kind_at(p_after, x.after_position) IS DISTINCT FROM 'first'
         ORDER BY x.after_position LIMIT p_n)
        UNION ALL
        (SELECT x.ctid, x.after_job, x.after_position FROM stretch s JOIN follow_up x
             ON x.after_queue = p_after AND x.after_position BETWEEN s.from_position AND s.to_position
         WHERE s.queue_id = p_after AND s.from_position > p_head AND s.kind IN ('taken', 'skipped')
         ORDER BY x.after_position LIMIT p_n)) f
    LEFT JOIN LATERAL (SELECT x.settled_at FROM outcome x WHERE x.job_id = f.after_job LIMIT 1) o ON true
    ORDER BY f.after_position LIMIT p_n
$$;

-- Takes away the follow-ups of these positions, and returns them. The caller has the tails of the event. Nobody may
-- call it but the gate's own functions.
CREATE FUNCTION take_follow_ups(p_after bigint, p_positions int8multirange) RETURNS follow_up[]
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    WITH taken AS (
        DELETE FROM follow_up f USING unnest(p_positions) r
        WHERE f.after_queue = p_after AND f.after_position >= lower(r) AND f.after_position < upper(r) RETURNING f)
    SELECT array_agg(f) FROM taken
$$;

-- Appends the photos of one event whose AI rotation has ended to its queue of photo processing, at most p_n. Each call
-- of append_jobs is a run, and a run is a row of the history. So it waits until some hundred photos are ready, or none
-- is awaited any more, or one has been ready for p_patience. r_followed: how many there were; 0: nothing is due. Call
-- it again until nothing is.
CREATE FUNCTION follow(p_n integer, p_patience interval, OUT r_followed integer, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE
    c_many constant integer := 500;
    v_after bigint; v_head bigint; v_ready integer; v_is_late boolean; v_is_awaited boolean; v_queue queue;
    v_taken follow_up[]; v_run record; v_woke boolean;
BEGIN
    r_followed := 0;
    r_woke := false;
    FOR v_after IN
        -- The queues that are waited for: a skip scan.
        WITH RECURSIVE q (after_queue) AS (
            (SELECT after_queue FROM follow_up ORDER BY after_queue LIMIT 1)
            UNION ALL
            SELECT (SELECT f.after_queue FROM follow_up f WHERE f.after_queue > q.after_queue
                    ORDER BY f.after_queue LIMIT 1)
            FROM q WHERE q.after_queue IS NOT NULL)
        SELECT after_queue FROM q WHERE after_queue IS NOT NULL
    LOOP
        SELECT head INTO v_head FROM queue_head WHERE queue_id BETWEEN v_after AND v_after
        ORDER BY queue_id DESC LIMIT 1;
        SELECT count(*) FILTER (WHERE r_has_ended),
               bool_or(r_has_ended AND (r_settled_at IS NULL OR r_settled_at < clock_timestamp() - p_patience
                                        OR r_settled_at > clock_timestamp() + interval '1 minute')),
               count(*) FILTER (WHERE r_has_ended) < (SELECT count(*) FROM (
                   SELECT FROM follow_up x WHERE x.after_queue = v_after LIMIT p_n) x)
        INTO v_ready, v_is_late, v_is_awaited FROM reached_follow_ups(v_after, v_head, p_n);
        CONTINUE WHEN v_ready = 0 OR v_is_awaited AND v_ready < c_many AND NOT v_is_late;
        SELECT q.* INTO v_queue FROM queue q JOIN queue a USING (event_id)
        WHERE a.queue_id = v_after AND q.operation = 'photo_processing';
        PERFORM 1 FROM queue_tail WHERE queue_id = v_queue.queue_id FOR NO KEY UPDATE SKIP LOCKED;
        CONTINUE WHEN NOT FOUND;
        -- A later statement than the lock: another worker may have been here.
        WITH ready AS (SELECT r_row FROM reached_follow_ups(v_after, v_head, p_n) WHERE r_has_ended),
        taken AS (DELETE FROM follow_up f USING ready r WHERE f.ctid = r.r_row RETURNING f)
        SELECT array_agg(f ORDER BY (f).after_position) INTO v_taken FROM taken;
        CONTINUE WHEN v_taken IS NULL;
        -- Holds and pauses as they are by now.
        SELECT q.* INTO v_queue FROM queue q WHERE queue_id = v_queue.queue_id;
        FOR v_run IN
            SELECT actor, take, urgent, array_agg(photo_id ORDER BY n) AS photos,
                   CASE WHEN count(payload) > 0 THEN array_agg(payload ORDER BY n) END AS payloads
            FROM unnest(v_taken) WITH ORDINALITY u (queue_id, photo_id, organisation_id, after_queue, after_position,
                                                    after_job, actor, take, urgent, payload, n)
            GROUP BY actor, take, urgent ORDER BY min(n)
        LOOP
            SELECT a.r_woke INTO v_woke
            FROM append_jobs(v_queue, v_run.photos, v_run.actor, v_run.take, 0, v_run.payloads, v_run.urgent) a;
            r_woke := r_woke OR v_woke;
        END LOOP;
        r_followed := cardinality(v_taken);
        RETURN;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION follow TO photogate_worker;
