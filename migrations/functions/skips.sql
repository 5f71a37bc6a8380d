-- Skips: a person takes photos that wait out of their queue, and puts them back.
--
-- These lock the queue's tail, as enqueue does, then the queue. They read in a later statement, so neither a claim nor
-- an enqueue can change what they read. Where photos are taken out, the account comes last (note_ends).

-- Locks a queue for people: its tail first, then the queue itself, as in enqueue. Returns the queue as it was locked.
CREATE FUNCTION lock_queue(p_event bigint, p_operation operation) RETURNS queue
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue;
BEGIN
    PERFORM 1 FROM queue_tail t JOIN queue q USING (queue_id)
    WHERE q.event_id = p_event AND q.operation = p_operation FOR NO KEY UPDATE OF t;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    -- A later statement than the locks: nobody would delete what is written now of a deleted event.
    IF NOT EXISTS (SELECT FROM event WHERE event_id = p_event AND deleted_at IS NULL) THEN
        RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002';
    END IF;
    PERFORM refuse_archived(p_event);
    RETURN v_queue;
END $$;

-- Where the latest jobs of these photos stand: those that wait, and those that are skipped; and their runs. The caller
-- has the queue's locks.
CREATE FUNCTION places_of(p_queue bigint, p_photos uuid[], OUT r_waiting int8multirange, OUT r_skipped int8multirange,
    OUT r_runs bigint[])
LANGUAGE plpgsql STABLE SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF cardinality(p_photos) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006';
    END IF;
    SELECT coalesce(range_agg(int8range(j.position, j.position, '[]'))
                    FILTER (WHERE coalesce(s.kind = 'first', j.position > h.head)), '{}'),
           coalesce(range_agg(int8range(j.position, j.position, '[]')) FILTER (WHERE s.kind = 'skipped'), '{}'),
           array_agg(DISTINCT j.run_id)
    INTO r_waiting, r_skipped, r_runs
    FROM (SELECT DISTINCT photo_id FROM unnest(p_photos) photo_id) a
    CROSS JOIN LATERAL latest_job(a.photo_id, p_queue) j
    JOIN queue_head h ON h.queue_id = p_queue
    CROSS JOIN LATERAL (SELECT stretch_kind_at(p_queue, j.position) AS kind) s;
END $$;

-- Takes photos that wait out of their queue: they are not claimed, and cost nothing. What is claimed by now is not
-- skipped any more.
CREATE FUNCTION skip_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text,
    OUT r_skipped integer, OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v record; v_were stretch[]; v_follow_ups follow_up[];
BEGIN
    v_queue := lock_queue(p_event, p_operation);
    SELECT * INTO v FROM places_of(v_queue.queue_id, p_photos);
    r_skipped := number_of(v.r_waiting);
    IF r_skipped = 0 THEN RETURN; END IF;
    v_were := put_stretches(v_queue.queue_id, v.r_waiting, 'skipped', NULL, NULL, p_actor, r_skipped);
    PERFORM note_ends(v_queue, v.r_runs);
    -- What follows them is queued now. Then the skip cannot be taken back any more.
    SELECT array_agg(f) INTO v_follow_ups FROM unnest(v.r_waiting) r JOIN follow_up f
        ON f.after_queue = v_queue.queue_id AND f.after_position >= lower(r) AND f.after_position < upper(r);
    r_undo := note_undo(v_queue, 'skip', p_actor, NULL, v.r_waiting, v_were, v_follow_ups);
END $$;
GRANT EXECUTE ON FUNCTION skip_photos TO photogate_app;

-- Puts skipped photos back where they stood. Those that the claims have passed are claimed before all others but those
-- that go first.
CREATE FUNCTION restore_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text,
    OUT r_restored integer, OUT r_woke boolean, OUT r_undo bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v record; v_were stretch[];
BEGIN
    v_queue := lock_queue(p_event, p_operation);
    SELECT * INTO v FROM places_of(v_queue.queue_id, p_photos);
    r_restored := number_of(v.r_skipped);
    r_woke := r_restored > 0 AND NOT v_queue.held AND v_queue.paused_since IS NULL;
    IF r_restored = 0 THEN RETURN; END IF;
    v_were := put_back(v_queue.queue_id, v.r_skipped, p_actor, -1);
    r_undo := note_undo(v_queue, 'restore', p_actor, NULL, v.r_skipped, v_were, NULL);
END $$;
GRANT EXECUTE ON FUNCTION restore_photos TO photogate_app;

-- Lets positions wait in their turn, and returns the stretches that they were in. What the head has passed needs a
-- stretch of its own: after all that go first, in the order of positions. p_each: -1 if they did not wait, 0 if they
-- did. The caller has the queue's locks. Nobody may call it but the gate's own functions.
CREATE FUNCTION put_back(p_queue bigint, p_positions int8multirange, p_actor text, p_each integer) RETURNS stretch[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_last constant bigint := 1000000000;
    v_passed int8multirange;
BEGIN
    SELECT p_positions * int8multirange(int8range(0, head, '[]')) INTO v_passed
    FROM queue_head WHERE queue_id = p_queue;
    RETURN put_stretches(p_queue, p_positions - v_passed, NULL, NULL, NULL, p_actor,
                         p_each * number_of(p_positions - v_passed))
        || put_stretches(p_queue, v_passed, 'first', c_last, NULL, p_actor, p_each * number_of(v_passed));
END $$;
