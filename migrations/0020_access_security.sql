-- Found by a review of the service.

-- Who may use the service concerns nobody but the application: not a worker, and not whoever looks at one organisation.

DO $$
DECLARE v_table text;
BEGIN
    FOREACH v_table IN ARRAY ARRAY['person', 'token', 'session', 'deed'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY all_rows ON %I TO photogate_app USING (true) WITH CHECK (true)', v_table);
    END LOOP;
END $$;

-- A part of the store is a directory: "club" would be that of "club-b" too.
ALTER TABLE organisation ADD CONSTRAINT organisation_photos_under CHECK (photos_under = '' OR right(photos_under, 1) = '/');

CREATE OR REPLACE FUNCTION set_photos_under(p_organisation bigint, p_prefix text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    IF p_prefix <> '' AND right(p_prefix, 1) <> '/' THEN
        RAISE EXCEPTION 'a part of the store ends with a slash: write "%/"', p_prefix USING ERRCODE = 'PG006';
    END IF;
    UPDATE organisation SET photos_under = p_prefix WHERE organisation_id = p_organisation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
END $$;

-- What waits in events that were deleted never runs, and is no shortfall of those that do: otherwise as before.
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
    SELECT a.available, (SELECT coalesce(sum(q.tail - q.head - q.skipped), 0) FROM queue q JOIN event e USING (event_id)
                         WHERE q.organisation_id = a.organisation_id AND e.deleted_at IS NULL)
    INTO r_available, r_ahead FROM account a WHERE a.organisation_id = v_queue.organisation_id;
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
    SELECT a.available, (SELECT coalesce(sum(q.tail - q.head - q.skipped), 0) FROM queue q JOIN event e USING (event_id)
                         WHERE q.organisation_id = a.organisation_id AND e.deleted_at IS NULL)
    INTO r_available, r_ahead FROM account a WHERE a.organisation_id = v_queue.organisation_id;
END $$;
