-- Skips: a person takes photos that wait out of their queue, and puts them back.
--
-- These lock the queue's tail, as enqueue does, and then the queue. They read in a later statement, so neither a claim
-- nor an enqueue can change what they read.
-- queue_head.skipped counts the skips in (head, tail]; a queue with nothing else left is drained.

-- Locks a queue for people: its tail first, then the queue itself, as in enqueue. Returns the queue as it was locked.
CREATE FUNCTION lock_queue(p_event bigint, p_operation operation) RETURNS queue
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue;
BEGIN
    PERFORM 1 FROM queue_tail t JOIN queue q USING (queue_id)
    WHERE q.event_id = p_event AND q.operation = p_operation FOR NO KEY UPDATE OF t;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    RETURN v_queue;
END $$;

-- Takes photos that wait out of their queue: they are not claimed, and cost nothing.
CREATE FUNCTION skip_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text, OUT r_skipped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_head queue_head; v_tail bigint;
BEGIN
    IF cardinality(p_photos) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006';
    END IF;
    SELECT * INTO v_queue FROM lock_queue(p_event, p_operation);
    SELECT * INTO v_head FROM queue_head WHERE queue_id = v_queue.queue_id;
    SELECT tail INTO v_tail FROM queue_tail WHERE queue_id = v_queue.queue_id;
    -- A later statement than the lock: what is claimed by now is not skipped any more.
    INSERT INTO skip (queue_id, position, photo_id, actor)
    SELECT v_queue.queue_id, j.position, j.photo_id, p_actor
    FROM (SELECT DISTINCT photo_id FROM unnest(p_photos) photo_id) a
    CROSS JOIN LATERAL latest_job(a.photo_id, v_queue.queue_id) j WHERE j.position > v_head.head
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS r_skipped = ROW_COUNT;
    IF v_tail - v_head.head - v_head.skipped - r_skipped > 0 THEN
        UPDATE queue_head SET skipped = skipped + r_skipped WHERE queue_id = v_queue.queue_id;
    ELSE
        -- Nothing else is left: the queue is drained.
        UPDATE queue_head SET skipped = 0, head = v_tail WHERE queue_id = v_queue.queue_id;
        UPDATE queue SET drained = true WHERE queue_id = v_queue.queue_id AND NOT drained;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION skip_photos TO photogate_app;

-- Puts skipped photos back: where they stood or, if the claims have passed that, at the end.
CREATE FUNCTION restore_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text,
    OUT r_restored integer, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_head queue_head; v_photos uuid[]; v_again integer := 0;
BEGIN
    IF cardinality(p_photos) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006';
    END IF;
    SELECT * INTO v_queue FROM lock_queue(p_event, p_operation);
    SELECT * INTO v_head FROM queue_head WHERE queue_id = v_queue.queue_id;
    r_woke := false;
    -- Later statements than the lock. First those whose position still waits: they stand where they stood.
    DELETE FROM skip WHERE queue_id = v_queue.queue_id AND position > v_head.head AND photo_id = ANY (p_photos);
    GET DIAGNOSTICS r_restored = ROW_COUNT;
    UPDATE queue_head SET skipped = skipped - r_restored WHERE queue_id = v_queue.queue_id;
    -- Then those that a claim has passed over: each is a new job at the end.
    SELECT array_agg(DISTINCT photo_id) INTO v_photos FROM skip
    WHERE queue_id = v_queue.queue_id AND position <= v_head.head AND photo_id = ANY (p_photos);
    IF v_photos IS NOT NULL THEN
        SELECT r_queued, x.r_woke INTO v_again, r_woke
        FROM append_jobs(v_queue, v_photos, p_actor, 'skipped', 0, NULL) x;
    END IF;
    r_restored := r_restored + v_again;
END $$;
GRANT EXECUTE ON FUNCTION restore_photos TO photogate_app;
