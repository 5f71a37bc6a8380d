-- What is queued costs by its own number, not by that of the photos and events that are there already.

-- Photos that wait in an organisation's events, but for those that were deleted: they never run.
CREATE FUNCTION waiting_photos(p_organisation bigint) RETURNS bigint
LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    -- Drained queues are passed over before their events are looked up.
    SELECT coalesce(sum(q.tail - q.head - q.skipped), 0)::bigint FROM queue q
    WHERE q.organisation_id = p_organisation AND q.blocked & 1 = 0
      AND (SELECT e.deleted_at FROM event e WHERE e.event_id = q.event_id) IS NULL
$$;

CREATE OR REPLACE FUNCTION enqueue(p_event bigint, p_operation operation, p_keys text[], p_ids uuid[], p_actor text,
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
    SELECT a.available, waiting_photos(a.organisation_id) INTO r_available, r_ahead FROM account a WHERE a.organisation_id = v_queue.organisation_id;
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
    SELECT a.available, waiting_photos(a.organisation_id) INTO r_available, r_ahead FROM account a WHERE a.organisation_id = v_queue.organisation_id;
END $$;

-- Each photo is looked up by an index. Plans that were made when an event was small read all of its photos later.
ALTER FUNCTION enqueue(bigint, operation, text[], uuid[], text) SET enable_seqscan = off;
ALTER FUNCTION enqueue(bigint, operation, text[], uuid[], text) SET enable_hashjoin = off;
ALTER FUNCTION enqueue(bigint, operation, text[], uuid[], text) SET enable_mergejoin = off;
ALTER FUNCTION retry(bigint, operation, uuid[], text) SET enable_seqscan = off;
ALTER FUNCTION retry(bigint, operation, uuid[], text) SET enable_hashjoin = off;
ALTER FUNCTION retry(bigint, operation, uuid[], text) SET enable_mergejoin = off;
ALTER FUNCTION restore_photos SET enable_seqscan = off;
ALTER FUNCTION restore_photos SET enable_hashjoin = off;
ALTER FUNCTION restore_photos SET enable_mergejoin = off;
