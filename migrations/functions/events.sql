-- Events: making one, and what its people may change later. forget.sql has face search and deletion.

-- Makes an event, with a queue for each operation. If faces are searched, p_actor has said that the people on the
-- photos agreed. NULL: the organisation has an event with this reference.
CREATE FUNCTION create_event(p_organisation bigint, p_name text, p_bib_search boolean, p_face_search boolean,
    p_actor text, p_reference text DEFAULT NULL)
RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_event bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM organisation WHERE organisation_id = p_organisation) THEN
        RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002';
    END IF;
    INSERT INTO event (organisation_id, name, bib_search, face_search, face_consent_by, face_consent_at, reference)
    VALUES (p_organisation, p_name, p_bib_search, p_face_search, CASE WHEN p_face_search THEN p_actor END,
        CASE WHEN p_face_search THEN clock_timestamp() END, p_reference)
    ON CONFLICT (organisation_id, reference) WHERE deleted_at IS NULL DO NOTHING
    RETURNING event_id INTO v_event;
    IF v_event IS NULL THEN RETURN NULL; END IF;
    WITH made AS (
        INSERT INTO queue (organisation_id, event_id, operation)
        SELECT p_organisation, v_event, o FROM unnest(enum_range(NULL::operation)) o
        RETURNING queue_id),
    heads AS (
        INSERT INTO queue_head (queue_id) SELECT queue_id FROM made),
    settled AS (
        INSERT INTO queue_settled (queue_id) SELECT queue_id FROM made)
    INSERT INTO queue_tail (queue_id) SELECT queue_id FROM made;
    RETURN v_event;
END $$;
GRANT EXECUTE ON FUNCTION create_event TO photogate_app;

-- Renames an event, and switches the search for bib numbers on or off. A NULL leaves a value as it is.
CREATE FUNCTION set_event(p_event bigint, p_name text, p_bib_search boolean) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE event SET name = coalesce(p_name, name), bib_search = coalesce(p_bib_search, bib_search)
    WHERE event_id = p_event AND deleted_at IS NULL;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION set_event TO photogate_app;

-- Replaces an event's start list; without numbers the event has none.
CREATE FUNCTION set_start_list(p_event bigint, p_numbers text[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    IF cardinality(p_numbers) = 0 THEN
        DELETE FROM start_list WHERE event_id = p_event;
    ELSE
        INSERT INTO start_list VALUES (p_event, p_numbers)
        ON CONFLICT (event_id) DO UPDATE SET numbers = EXCLUDED.numbers;
    END IF;
    PERFORM ask_to_reconsider(p_event);
END $$;
GRANT EXECUTE ON FUNCTION set_start_list TO photogate_app;

-- Nothing is queued for an event that was deleted or archived. Every enqueue writes a run, so the run's trigger sees
-- them all.
CREATE OR REPLACE FUNCTION refuse_deleted_event() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_event bigint;
BEGIN
    SELECT e.event_id INTO v_event FROM queue q JOIN event e USING (event_id)
    WHERE q.queue_id = NEW.queue_id AND e.deleted_at IS NOT NULL;
    IF FOUND THEN RAISE EXCEPTION 'no event % any more', v_event USING ERRCODE = 'PG002'; END IF;
    PERFORM refuse_archived(NEW.event_id);
    RETURN NEW;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = 'run'::regclass AND tgname = 'run_of_no_deleted_event') THEN
        CREATE TRIGGER run_of_no_deleted_event BEFORE INSERT ON run
            FOR EACH ROW EXECUTE FUNCTION refuse_deleted_event();
    END IF;
END $$;
