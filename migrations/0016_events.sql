-- What an event's people may change their mind about: whether faces are searched for, who runs, and the event itself.

ALTER TABLE event ADD deleted_at timestamptz, ADD deleted_by text CHECK (length(deleted_by) BETWEEN 1 AND 200),
    ADD CONSTRAINT event_deleted CHECK ((deleted_at IS NULL) = (deleted_by IS NULL)),
    ADD CONSTRAINT event_deleted_has_no_faces CHECK (deleted_at IS NULL OR NOT face_search);

-- A hold that nobody lifts: that of an event that was deleted.
ALTER TABLE hold ADD for_good boolean NOT NULL DEFAULT false, ADD CONSTRAINT hold_for_good CHECK (NOT for_good OR lifted_at IS NULL AND until IS NULL);

-- The numbers that are worn, where the organiser has told them. No names: nobody needs them to read a number.
CREATE TABLE start_list (
    event_id bigint NOT NULL REFERENCES event,
    number   text NOT NULL CHECK (number ~ '^[0-9A-Z]{1,10}$'),
    PRIMARY KEY (event_id, number)
);
ALTER TABLE start_list ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON start_list TO photogate_worker USING (true) WITH CHECK (true);
CREATE POLICY own_rows ON start_list FOR SELECT TO photogate_organisation USING (EXISTS (SELECT FROM event e WHERE e.event_id = start_list.event_id));
GRANT SELECT ON start_list TO photogate_worker, photogate_organisation;

-- Replaces an event's start list; without numbers it has none. Returns how many numbers it has now.
CREATE FUNCTION set_start_list(p_event bigint, p_numbers text[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_n integer;
BEGIN
    IF cardinality(p_numbers) > 200000 THEN RAISE EXCEPTION 'a start list has at most 200000 numbers' USING ERRCODE = 'PG006'; END IF;
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    DELETE FROM start_list WHERE event_id = p_event;
    INSERT INTO start_list SELECT DISTINCT p_event, n FROM unnest(p_numbers) n;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;

-- Which of these photos may have findings written, and whether with embeddings. Until the caller's transaction ends,
-- nobody switches the face search of their events off or deletes them: what is written is seen by whoever does it next.
CREATE FUNCTION findings_wanted(p_photos uuid[]) RETURNS TABLE (r_photo uuid, r_embeddings boolean)
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    WITH e AS MATERIALIZED (
        SELECT event_id, face_search, deleted_at FROM event
        WHERE event_id IN (SELECT p.event_id FROM photo p WHERE p.photo_id = ANY (p_photos)) ORDER BY event_id FOR KEY SHARE)
    SELECT p.photo_id, e.face_search FROM photo p JOIN e USING (event_id) WHERE p.photo_id = ANY (p_photos) AND e.deleted_at IS NULL
$$;

-- Switched off, the embeddings are gone: they are biometric data, and kept for nothing else. Returns how many faces had one.
CREATE FUNCTION set_face_search(p_event bigint, p_on boolean) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_n integer := 0;
BEGIN
    -- Waits for settlements that write embeddings, and keeps later ones out (see findings_wanted).
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    UPDATE event SET face_search = p_on WHERE event_id = p_event;
    IF NOT p_on THEN
        UPDATE face SET embedding = NULL FROM photo p
        WHERE p.event_id = p_event AND face.photo_id = p.photo_id AND face.embedding IS NOT NULL;
        GET DIAGNOSTICS v_n = ROW_COUNT;
    END IF;
    RETURN v_n;
END $$;

-- Forgets what was seen on an event's photos and who ran, and lets nothing more of it run. What was paid stays in the
-- books, and the photos stay in the store. Photos in hand are finished and charged; what is seen on them is not kept.
CREATE FUNCTION delete_event(p_event bigint, p_actor text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    -- Queues before events, as settlements have it.
    PERFORM 1 FROM queue WHERE event_id = p_event ORDER BY queue_id FOR NO KEY UPDATE;
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    UPDATE event SET deleted_at = clock_timestamp(), deleted_by = p_actor, face_search = false WHERE event_id = p_event;
    INSERT INTO hold (queue_id, owner, note, for_good) SELECT queue_id, p_actor, 'the event was deleted', true FROM queue WHERE event_id = p_event;
    UPDATE queue SET blocked = (blocked | 4)::smallint WHERE event_id = p_event;
    DELETE FROM start_list WHERE event_id = p_event;
    DELETE FROM face USING photo p WHERE p.event_id = p_event AND face.photo_id = p.photo_id;
    DELETE FROM bib USING photo p WHERE p.event_id = p_event AND bib.photo_id = p.photo_id;
    DELETE FROM looked_at USING photo p WHERE p.event_id = p_event AND looked_at.photo_id = p.photo_id;
    DELETE FROM rotation USING photo p WHERE p.event_id = p_event AND rotation.photo_id = p.photo_id;
END $$;

-- Nothing is queued for an event that was deleted.
CREATE FUNCTION refuse_deleted_event() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_event bigint;
BEGIN
    SELECT e.event_id INTO v_event FROM queue q JOIN event e USING (event_id) WHERE q.queue_id = NEW.queue_id AND e.deleted_at IS NOT NULL;
    IF FOUND THEN RAISE EXCEPTION 'no event % any more', v_event USING ERRCODE = 'PG002'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER run_of_no_deleted_event BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION refuse_deleted_event();

-- Bib numbers are also searched by how they begin.
CREATE INDEX bib_prefix ON bib (number text_pattern_ops);
DROP INDEX bib_number;

GRANT EXECUTE ON FUNCTION set_start_list, set_face_search, delete_event TO photogate_app;
GRANT EXECUTE ON FUNCTION findings_wanted TO photogate_worker;
