-- Corrections: a person says which bib numbers a photo shows, or which way is up. They cost nothing.
--
-- A run of the models never replaces a correction. What the models say is kept beside it, as `found`: a mistake can be
-- studied, and it comes back at once when the correction is taken back.
-- Lock order: the event (FOR UPDATE: it waits for settlements that write findings, and for whoever deletes some, and
-- keeps later ones out). So nobody comes between what is read here and what is written. Settlements, of which there are
-- many, need no lock of each photo for it. A correction is short.

-- Locks the event of a photo.
CREATE FUNCTION lock_event_of(p_photo uuid) RETURNS event
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v event; v_event bigint;
BEGIN
    SELECT event_id INTO v_event FROM photo WHERE photo_id = p_photo;
    SELECT * INTO v FROM event WHERE event_id = v_event AND deleted_at IS NULL FOR UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no photo %', p_photo USING ERRCODE = 'PG002'; END IF;
    PERFORM refuse_archived(v_event);
    RETURN v;
END $$;

-- Keeps beside their corrections what the bib rows of corrected photos say: the models have just written it.
CREATE FUNCTION keep_found_numbers(p_photos uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE number_correction c SET found = (
        SELECT coalesce(jsonb_agg(to_jsonb(b) - 'photo_id' ORDER BY b.number), '[]')
        FROM bib b WHERE b.photo_id = c.photo_id)
    WHERE c.photo_id = ANY (p_photos) AND EXISTS (SELECT FROM looked_at l WHERE l.photo_id = c.photo_id)
$$;

-- Writes the bib rows of corrected photos. A number that was found keeps its place; another one has none.
CREATE FUNCTION show_numbers(p_photos uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    DELETE FROM bib b USING number_correction c WHERE b.photo_id = c.photo_id AND c.photo_id = ANY (p_photos);
    INSERT INTO bib (photo_id, number, x, y, width, height, score, settled_by, was)
    SELECT c.photo_id, n.number, f.x, f.y, f.width, f.height, 1, 'organiser', f.was
    FROM number_correction c
    CROSS JOIN LATERAL unnest(c.numbers) n (number)
    LEFT JOIN LATERAL jsonb_populate_recordset(NULL::bib, coalesce(c.found, '[]')) f ON f.number = n.number
    WHERE c.photo_id = ANY (p_photos)
$$;

-- Says that a photo shows these bib numbers, and no others. Returns which it showed before and which it shows now, and
-- whether anything has changed: the same correction again changes nothing.
CREATE FUNCTION correct_numbers(p_photo uuid, p_numbers text[], p_actor text,
    OUT r_before text[], OUT r_after text[], OUT r_changed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v event; v_erased text; v_is_first boolean;
BEGIN
    v := lock_event_of(p_photo);
    -- Later statements than the lock.
    SELECT coalesce(array_agg(number ORDER BY number), '{}') INTO r_before FROM bib WHERE photo_id = p_photo;
    SELECT coalesce(array_agg(DISTINCT n ORDER BY n), '{}') INTO r_after FROM unnest(p_numbers) n;
    r_changed := NOT EXISTS (
        SELECT FROM number_correction WHERE photo_id = p_photo AND numbers = r_after);
    IF NOT r_changed THEN RETURN; END IF;
    SELECT min(number) INTO v_erased FROM erased_bib WHERE event_id = v.event_id AND number = ANY (r_after);
    IF v_erased IS NOT NULL THEN
        RAISE EXCEPTION 'the number % was erased from this event, because its wearer asked for it: leave it out',
            v_erased USING ERRCODE = 'PG006';
    END IF;
    -- Nobody would delete what is written now.
    IF v.forgets = 'findings' THEN
        RAISE EXCEPTION 'the findings of event % are still being deleted: try again in a minute', v.event_id
            USING ERRCODE = 'PG006';
    END IF;
    IF findings_kept_until(v.event_id) <= clock() THEN
        RAISE EXCEPTION 'event % keeps bib numbers for % days, which are over: let it keep them for longer first',
            v.event_id, v.keep_findings_days USING ERRCODE = 'PG006';
    END IF;
    v_is_first := NOT EXISTS (SELECT FROM number_correction WHERE photo_id = p_photo);
    INSERT INTO number_correction (photo_id, numbers, actor) VALUES (p_photo, r_after, p_actor)
    ON CONFLICT (photo_id) DO UPDATE SET numbers = excluded.numbers, actor = excluded.actor, at = clock_timestamp();
    -- Later, the rows are those of the first correction. If findings were deleted once, no rows do not say that none
    -- were found.
    IF v_is_first AND (v.findings_forgotten_at IS NULL OR cardinality(r_before) > 0) THEN
        PERFORM keep_found_numbers(ARRAY[p_photo]);
    END IF;
    PERFORM show_numbers(ARRAY[p_photo]);
    -- It may tell more about other photos.
    PERFORM ask_to_reconsider(v.event_id);
END $$;
GRANT EXECUTE ON FUNCTION correct_numbers TO photogate_app;

-- Takes the correction of a photo's numbers back: what the models have found is shown again.
CREATE FUNCTION take_numbers_back(p_photo uuid, OUT r_before text[], OUT r_after text[], OUT r_changed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v number_correction; v_event event;
BEGIN
    v_event := lock_event_of(p_photo);
    SELECT coalesce(array_agg(number ORDER BY number), '{}') INTO r_before FROM bib WHERE photo_id = p_photo;
    DELETE FROM number_correction WHERE photo_id = p_photo RETURNING * INTO v;
    r_changed := FOUND;
    IF r_changed THEN
        DELETE FROM bib WHERE photo_id = p_photo;
        INSERT INTO bib (photo_id, number, x, y, width, height, score, settled_by, was)
        SELECT p_photo, f.number, f.x, f.y, f.width, f.height, f.score, f.settled_by, f.was
        FROM jsonb_populate_recordset(NULL::bib, coalesce(v.found, '[]')) f;
        -- What is known of the event may have changed since.
        PERFORM ask_to_reconsider(v_event.event_id);
    END IF;
    SELECT coalesce(array_agg(number ORDER BY number), '{}') INTO r_after FROM bib WHERE photo_id = p_photo;
END $$;
GRANT EXECUTE ON FUNCTION take_numbers_back TO photogate_app;

-- Deletes a bib number from the corrections of an event's photos (erase_person).
CREATE FUNCTION erase_corrected(p_event bigint, p_bib text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT erase_corrected_of(array_agg(p.photo_id), p_bib)
    FROM photo p JOIN number_correction c USING (photo_id) WHERE p.event_id = p_event
$$;

-- Deletes a bib number from the corrections of these photos. What is left of such a correction is not all that the
-- photo shows, and no later one can be: the number may not be told again.
CREATE FUNCTION erase_corrected_of(p_photos uuid[], p_bib text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE number_correction c
    SET numbers = array_remove(c.numbers, p_bib), complete = c.complete AND p_bib <> ALL (c.numbers),
        found = CASE WHEN c.found IS NOT NULL THEN (
            SELECT coalesce(jsonb_agg(
                CASE WHEN f.one->>'was' = p_bib THEN f.one || '{"was": null}' ELSE f.one END ORDER BY f.i), '[]')
            FROM jsonb_array_elements(c.found) WITH ORDINALITY f (one, i) WHERE f.one->>'number' <> p_bib) END
    WHERE c.photo_id = ANY (p_photos)
        AND (p_bib = ANY (c.numbers) OR c.found @> jsonb_build_array(jsonb_build_object('number', p_bib))
             OR c.found @> jsonb_build_array(jsonb_build_object('was', p_bib)))
$$;

-- Keeps beside their corrections what AI rotation has just written of corrected photos.
CREATE FUNCTION keep_found_turns(p_photos uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE turn_correction c SET found = to_jsonb(r) - 'photo_id' FROM rotation r
    WHERE r.photo_id = c.photo_id AND c.photo_id = ANY (p_photos)
$$;

-- Writes the turns of corrected photos.
CREATE FUNCTION show_turns(p_photos uuid[]) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO rotation (photo_id, turn, confidence, abstained, upright_key, lossless)
    SELECT c.photo_id, c.turn, 1, false, c.upright_key, c.lossless
    FROM turn_correction c WHERE c.photo_id = ANY (p_photos)
    ON CONFLICT (photo_id) DO UPDATE SET turn = excluded.turn, confidence = 1, abstained = false,
        upright_key = excluded.upright_key, lossless = excluded.lossless
$$;

-- Says by how much a photo must be turned. Its upright copy is in the store already, under a key that no other turn has
-- (NULL: the original is upright). Returns the turn before, NULL if it was not known, and whether anything has changed.
CREATE FUNCTION correct_turn(p_photo uuid, p_turn smallint, p_upright_key text, p_lossless boolean, p_actor text,
    OUT r_before smallint, OUT r_changed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_is_first boolean;
BEGIN
    PERFORM lock_event_of(p_photo);
    r_before := known_turn(p_photo);
    r_changed := NOT EXISTS (
        SELECT FROM turn_correction WHERE photo_id = p_photo AND turn = p_turn
            AND upright_key IS NOT DISTINCT FROM p_upright_key AND lossless IS NOT DISTINCT FROM p_lossless);
    IF NOT r_changed THEN RETURN; END IF;
    v_is_first := NOT EXISTS (SELECT FROM turn_correction WHERE photo_id = p_photo);
    INSERT INTO turn_correction (photo_id, turn, upright_key, lossless, actor)
    VALUES (p_photo, p_turn, p_upright_key, p_lossless, p_actor)
    ON CONFLICT (photo_id) DO UPDATE SET turn = excluded.turn, upright_key = excluded.upright_key,
        lossless = excluded.lossless, actor = excluded.actor, at = clock_timestamp();
    IF v_is_first THEN PERFORM keep_found_turns(ARRAY[p_photo]); END IF;
    PERFORM show_turns(ARRAY[p_photo]);
END $$;
GRANT EXECUTE ON FUNCTION correct_turn TO photogate_app;

-- Takes the correction of a photo's turn back: what AI rotation has found is shown again. The file stays until the
-- event is deleted: somebody may make the same correction in this moment.
CREATE FUNCTION take_turn_back(p_photo uuid, OUT r_before smallint, OUT r_after smallint, OUT r_changed boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v turn_correction;
BEGIN
    PERFORM lock_event_of(p_photo);
    r_before := known_turn(p_photo);
    DELETE FROM turn_correction WHERE photo_id = p_photo RETURNING * INTO v;
    r_changed := FOUND;
    IF r_changed THEN
        DELETE FROM rotation WHERE photo_id = p_photo;
        INSERT INTO rotation (photo_id, turn, confidence, abstained, upright_key, lossless)
        SELECT p_photo, f.turn, f.confidence, f.abstained, f.upright_key, f.lossless
        FROM jsonb_populate_record(NULL::rotation, v.found) f WHERE v.found IS NOT NULL;
    END IF;
    r_after := known_turn(p_photo);
END $$;
GRANT EXECUTE ON FUNCTION take_turn_back TO photogate_app;

-- The clockwise turn that a photo is known to need: somebody has said it, or AI rotation has found it; NULL: neither.
-- Workers ask before they look for faces and numbers. Of findings, they read nothing else.
CREATE FUNCTION known_turn(p_photo uuid) RETURNS smallint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT turn FROM rotation WHERE photo_id = p_photo AND NOT abstained
$$;
GRANT EXECUTE ON FUNCTION known_turn TO photogate_worker;
