-- Bib numbers that are decided again when more is known of their event: a start list, how its other numbers look, who
-- wears them on other photos. It needs what was read (looked_at.lines), and no photo, worker or credit. The service
-- does it (src/catalog/reconsider.rs), because workers read no findings.

-- Asks for all numbers of an event to be decided again.
CREATE FUNCTION ask_to_reconsider(p_event bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    INSERT INTO reconsideration AS r (event_id, asked) VALUES (p_event, 1)
    ON CONFLICT (event_id) DO UPDATE SET asked = r.asked + 1
$$;

-- Takes an event whose numbers are to be decided again, for p_lease at most: more was asked for, or more photos were
-- settled than when it was last done. While photos come, an event waits for a minute, and for 50 times as long as the
-- last time took; if somebody asks, for three times as long, because each of many corrections asks. The organisation
-- that has waited longest comes first, whatever others ask for. Returns nothing if no event is due. r_began names this
-- turn: with it, write_reconsidered() and end_reconsideration() know that nobody else has taken the event since.
CREATE FUNCTION take_reconsideration(p_lease interval, OUT r_event bigint, OUT r_settled bigint, OUT r_asked bigint,
    OUT r_began timestamptz)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    v_now  timestamptz := clock_timestamp();
    -- Instants after this one come from a clock that has jumped: nobody waits for them.
    v_soon timestamptz := v_now + interval '1 minute';
BEGIN
    SELECT d.event_id, d.settled, d.asked INTO r_event, r_settled, r_asked
    FROM (
        SELECT e.event_id, s.committed + s.duplicates AS settled, coalesce(r.asked, 0) AS asked, r.began_at,
               max(r.began_at) OVER (PARTITION BY e.organisation_id) AS last_turn,
               (r.taken_until IS NULL OR r.taken_until <= v_now OR r.taken_until > v_now + 2 * p_lease)
               AND (r.asked > r.answered
                    AND (r.ended_at IS NULL OR r.ended_at > v_soon
                         OR r.ended_at + 3 * (r.ended_at - r.began_at) <= v_now)
                    OR e.bib_search AND s.committed + s.duplicates > coalesce(r.settled, 0)
                       AND (r.ended_at IS NULL OR r.ended_at > v_soon OR r.ended_at
                            + greatest(interval '1 minute', 50 * (r.ended_at - r.began_at)) <= v_now)) AS is_due
        FROM queue q JOIN queue_settled s USING (queue_id) JOIN event e USING (event_id)
        LEFT JOIN reconsideration r USING (event_id)
        WHERE q.operation = 'photo_processing' AND e.deleted_at IS NULL AND NOT is_archived(e.event_id)) d
    WHERE d.is_due
    ORDER BY d.last_turn NULLS FIRST, d.began_at NULLS FIRST, d.event_id LIMIT 1;
    IF r_event IS NULL THEN RETURN; END IF;
    r_began := v_now;
    INSERT INTO reconsideration AS r (event_id, began_at, taken_until) VALUES (r_event, v_now, v_now + p_lease)
    ON CONFLICT (event_id) DO UPDATE SET began_at = v_now, taken_until = v_now + p_lease
        WHERE r.taken_until IS NULL OR r.taken_until <= v_now OR r.taken_until > v_now + 2 * p_lease;
    -- Another process was faster.
    IF NOT FOUND THEN r_event := NULL; END IF;
END $$;
GRANT EXECUTE ON FUNCTION take_reconsideration TO photogate_app;

-- An event's numbers were decided again: with all that was settled, and asked for, when it was taken.
CREATE FUNCTION end_reconsideration(p_event bigint, p_began timestamptz, p_settled bigint, p_asked bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE reconsideration SET settled = greatest(settled, p_settled), answered = greatest(answered, p_asked),
        ended_at = clock_timestamp(), taken_until = NULL
    WHERE event_id = p_event AND began_at = p_began
$$;
GRANT EXECUTE ON FUNCTION end_reconsideration TO photogate_app;

-- Replaces the bib numbers of photos of an event, and takes p_lease more time for it. p_decided is an array of
-- {photo, version, bibs, lines}: the xmin of what they were decided from, numbers in the form of write_findings, and
-- the lines, if some are to go because a number was erased. Returns how many photos have changed: not those that were
-- processed, corrected or forgotten meanwhile. NULL: somebody else has taken the event, or it is not what it was.
CREATE FUNCTION write_reconsidered(p_event bigint, p_began timestamptz, p_lease interval, p_decided jsonb)
RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_face_search boolean; v_photos uuid[];
BEGIN
    -- As in write_findings: nobody deletes or erases meanwhile.
    SELECT face_search INTO v_face_search FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR KEY SHARE;
    -- A later statement than the lock: whoever archives the event waits for it.
    IF NOT FOUND OR is_archived(p_event) THEN RETURN NULL; END IF;
    -- Face search was switched off since: what faces have settled is not written any more.
    IF NOT v_face_search AND p_decided @? '$[*].bibs[*] ? (@.settled_by == "person")' THEN RETURN NULL; END IF;
    UPDATE reconsideration SET taken_until = clock_timestamp() + p_lease
    WHERE event_id = p_event AND began_at = p_began AND taken_until IS NOT NULL;
    IF NOT FOUND THEN RETURN NULL; END IF;
    -- What a settlement, or forget(), changes in this moment is passed over: so nobody waits for each other.
    SELECT coalesce(array_agg(l.photo_id), '{}') INTO v_photos FROM (
        SELECT l.photo_id FROM jsonb_array_elements(p_decided) d (decided)
        JOIN looked_at l ON l.photo_id = (d.decided->>'photo')::uuid AND l.xmin::text = d.decided->>'version'
        JOIN photo p USING (photo_id)
        WHERE p.event_id = p_event
        FOR NO KEY UPDATE OF l SKIP LOCKED) l;
    -- Later than the lock. Lines go from corrected photos too; their numbers stay.
    UPDATE looked_at l SET lines = d.decided->'lines' FROM jsonb_array_elements(p_decided) d (decided)
    WHERE l.photo_id = ANY (v_photos) AND l.photo_id = (d.decided->>'photo')::uuid AND d.decided ? 'lines';
    SELECT coalesce(array_agg(photo_id), '{}') INTO v_photos FROM unnest(v_photos) u (photo_id)
    WHERE NOT EXISTS (SELECT FROM number_correction c WHERE c.photo_id = u.photo_id);
    DELETE FROM bib WHERE photo_id = ANY (v_photos);
    INSERT INTO bib (photo_id, number, x, y, width, height, score, settled_by, was)
    SELECT u.photo_id, b.number, b.x, b.y, b.width, b.height, b.score, b.settled_by,
           CASE WHEN NOT EXISTS (
               SELECT FROM erased_bib e WHERE e.event_id = p_event AND e.number = b.was) THEN b.was END
    FROM jsonb_array_elements(p_decided) d (decided)
    JOIN unnest(v_photos) u (photo_id) ON u.photo_id = (d.decided->>'photo')::uuid
    CROSS JOIN LATERAL jsonb_to_recordset(d.decided->'bibs')
        AS b (number text, x real, y real, width real, height real, score real, settled_by settled_by, was text)
    WHERE NOT EXISTS (SELECT FROM erased_bib e WHERE e.event_id = p_event AND e.number = b.number);
    RETURN cardinality(v_photos);
END $$;
GRANT EXECUTE ON FUNCTION write_reconsidered TO photogate_app;
