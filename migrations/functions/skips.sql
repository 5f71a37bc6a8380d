-- Skips: a person takes photos that wait out of their queue, and puts them back.
--
-- These lock only the queue, as enqueue does. They read in a later statement, so no claim can change what they read.
-- queue.skipped counts the skips in (head, tail]; a queue with nothing else left is drained.

-- Takes photos that wait out of their queue: they are not claimed, and cost nothing.
CREATE FUNCTION skip_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text, OUT r_skipped integer)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_rest bigint;
BEGIN
    IF cardinality(p_photos) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006';
    END IF;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    -- A later statement than the lock: what is claimed by now is not skipped any more.
    INSERT INTO skip (queue_id, position, photo_id, actor)
    SELECT v_queue.queue_id, j.position, j.photo_id, p_actor
    FROM (SELECT DISTINCT photo_id FROM unnest(p_photos) photo_id) a
    JOIN job j ON j.photo_id = a.photo_id AND j.queue_id = v_queue.queue_id AND j.position > v_queue.head
    ON CONFLICT DO NOTHING;
    GET DIAGNOSTICS r_skipped = ROW_COUNT;
    v_rest := v_queue.tail - v_queue.head - v_queue.skipped - r_skipped;
    IF v_rest > 0 THEN
        UPDATE queue SET skipped = skipped + r_skipped WHERE queue_id = v_queue.queue_id;
    ELSE
        -- Nothing else is left: the queue is drained.
        UPDATE queue SET skipped = 0, head = tail, drained = true WHERE queue_id = v_queue.queue_id;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION skip_photos TO photogate_app;

-- Puts skipped photos back: where they stood or, if the claims have passed that, at the end.
CREATE FUNCTION restore_photos(p_event bigint, p_operation operation, p_photos uuid[], p_actor text,
    OUT r_restored integer, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue queue; v_photos uuid[]; v_again integer := 0;
BEGIN
    IF cardinality(p_photos) > 10000 THEN
        RAISE EXCEPTION 'at most 10000 photos a call' USING ERRCODE = 'PG006';
    END IF;
    SELECT * INTO v_queue FROM queue WHERE event_id = p_event AND operation = p_operation FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    -- Later statements than the lock. First those whose position still waits: they stand where they stood.
    DELETE FROM skip WHERE queue_id = v_queue.queue_id AND position > v_queue.head AND photo_id = ANY (p_photos);
    GET DIAGNOSTICS r_restored = ROW_COUNT;
    UPDATE queue SET skipped = skipped - r_restored WHERE queue_id = v_queue.queue_id;
    -- Then those that a claim has passed over: each is a new job at the end.
    SELECT array_agg(DISTINCT photo_id) INTO v_photos FROM skip
    WHERE queue_id = v_queue.queue_id AND position <= v_queue.head AND photo_id = ANY (p_photos);
    IF v_photos IS NOT NULL THEN
        SELECT r_queued INTO v_again FROM append_jobs(v_queue, v_photos, p_actor, 'skipped', 0, NULL);
    END IF;
    r_woke := v_queue.drained AND v_again > 0;
    r_restored := r_restored + v_again;
END $$;
GRANT EXECUTE ON FUNCTION restore_photos TO photogate_app;
