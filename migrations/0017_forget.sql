-- What is deleted on request is first out of reach, at once, and then gone, batch by batch: an event of a hundred thousand
-- photos must not hold its settlements up, nor run into a limit of time. Workers finish what a caller did not.

ALTER TABLE event ADD forgets text CHECK (forgets IN ('embeddings', 'everything')), ADD forgotten_to text;
CREATE INDEX event_forgets ON event (event_id) WHERE forgets IS NOT NULL;

DROP FUNCTION set_face_search, delete_event;

-- Switched off, no embedding is written or searched any more; forget() deletes those there are: they are biometric data.
CREATE FUNCTION set_face_search(p_event bigint, p_on boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v event;
BEGIN
    -- Waits for settlements that write embeddings, and keeps later ones out (see findings_wanted).
    SELECT * INTO v FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    IF p_on AND v.forgets IS NOT NULL THEN
        RAISE EXCEPTION 'the embeddings of event % are still being deleted: try again in a minute', p_event USING ERRCODE = 'PG006';
    END IF;
    IF p_on THEN UPDATE event SET face_search = true WHERE event_id = p_event;
    ELSE UPDATE event SET face_search = false, forgets = 'embeddings', forgotten_to = NULL WHERE event_id = p_event;
    END IF;
END $$;

-- Lets nothing more of an event run, and nobody see it; forget() deletes what was seen on its photos. What was paid stays in
-- the books, and the photos stay in the store. Photos in hand are finished and charged; what is seen on them is not kept.
CREATE FUNCTION delete_event(p_event bigint, p_actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    -- Queues before events, as settlements have it.
    PERFORM 1 FROM queue WHERE event_id = p_event ORDER BY queue_id FOR NO KEY UPDATE;
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    UPDATE event SET deleted_at = clock_timestamp(), deleted_by = p_actor, face_search = false, forgets = 'everything', forgotten_to = NULL
    WHERE event_id = p_event;
    INSERT INTO hold (queue_id, owner, note, for_good) SELECT queue_id, p_actor, 'the event was deleted', true FROM queue WHERE event_id = p_event;
    UPDATE queue SET blocked = (blocked | 4)::smallint WHERE event_id = p_event;
END $$;

-- Deletes what is to be forgotten of so many photos of an event, or of any event that nobody is at. Returns the event (null:
-- there is none), of how many faces something was deleted, and whether that was all.
CREATE FUNCTION forget(p_event bigint, p_photos integer, OUT r_event bigint, OUT r_faces integer, OUT r_done boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    v        event;
    v_photos uuid[];
    v_to     text;
BEGIN
    r_faces := 0; r_done := true;
    -- NO KEY UPDATE: settlements go on. Named, it is waited for; else whoever is at it goes on with it.
    IF p_event IS NOT NULL THEN SELECT * INTO v FROM event WHERE event_id = p_event AND forgets IS NOT NULL FOR NO KEY UPDATE;
    ELSE SELECT * INTO v FROM event WHERE forgets IS NOT NULL ORDER BY event_id LIMIT 1 FOR NO KEY UPDATE SKIP LOCKED;
    END IF;
    IF NOT FOUND THEN RETURN; END IF;
    r_event := v.event_id;
    SELECT array_agg(photo_id), max(key) INTO v_photos, v_to
    FROM (SELECT photo_id, key FROM photo WHERE event_id = v.event_id AND (v.forgotten_to IS NULL OR key > v.forgotten_to) ORDER BY key LIMIT p_photos) p;
    IF v.forgets = 'embeddings' THEN
        UPDATE face SET embedding = NULL WHERE photo_id = ANY (v_photos) AND embedding IS NOT NULL;
        GET DIAGNOSTICS r_faces = ROW_COUNT;
    ELSE
        DELETE FROM face WHERE photo_id = ANY (v_photos);
        GET DIAGNOSTICS r_faces = ROW_COUNT;
        DELETE FROM bib WHERE photo_id = ANY (v_photos);
        DELETE FROM looked_at WHERE photo_id = ANY (v_photos);
        DELETE FROM rotation WHERE photo_id = ANY (v_photos);
    END IF;
    r_done := coalesce(cardinality(v_photos), 0) < p_photos;
    IF r_done THEN
        IF v.forgets = 'everything' THEN DELETE FROM start_list WHERE event_id = v.event_id; END IF;
        UPDATE event SET forgets = NULL, forgotten_to = NULL WHERE event_id = v.event_id;
    ELSE
        UPDATE event SET forgotten_to = v_to WHERE event_id = v.event_id;
    END IF;
END $$;

-- As before, but the hold of an event that was deleted says why it stands, instead of a broken constraint.
CREATE OR REPLACE FUNCTION lift_hold(p_hold bigint, p_actor text, OUT r_lifted boolean, OUT r_woke boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queue bigint; v_for_good boolean;
BEGIN
    r_woke := false;
    SELECT queue_id, for_good INTO v_queue, v_for_good FROM hold WHERE hold_id = p_hold;
    IF NOT FOUND THEN RAISE EXCEPTION 'no hold %', p_hold USING ERRCODE = 'PG002'; END IF;
    IF v_for_good THEN RAISE EXCEPTION 'hold % stands for good: its event was deleted', p_hold USING ERRCODE = 'PG006'; END IF;
    PERFORM 1 FROM queue WHERE queue_id = v_queue FOR NO KEY UPDATE;
    UPDATE hold SET lifted_at = clock_timestamp(), lifted_by = p_actor WHERE hold_id = p_hold AND lifted_at IS NULL;
    r_lifted := FOUND;
    -- A later statement than the lock: it sees every hold that was placed before us.
    UPDATE queue q SET blocked = (q.blocked & ~4)::smallint WHERE q.queue_id = v_queue AND q.blocked & 4 <> 0
        AND NOT EXISTS (SELECT FROM hold h WHERE h.queue_id = v_queue AND h.lifted_at IS NULL)
    RETURNING q.blocked = 0 INTO r_woke;
    r_woke := coalesce(r_woke, false);
END $$;

GRANT EXECUTE ON FUNCTION set_face_search, delete_event TO photogate_app;
GRANT EXECUTE ON FUNCTION forget TO photogate_worker;
