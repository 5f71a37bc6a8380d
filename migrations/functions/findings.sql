-- Findings: what a worker has seen on photos.

-- Writes what a worker has seen on photos, and replaces what an earlier run saw on them. Corrections by people stay
-- (corrections.sql). Faces and numbers of a duplicate are those of its original (content.sql); its turn is its own,
-- because its upright copy is. p_found is an array. It has
-- {job, width, height, looked_turn, faces: [{x, y, width, height, score, embedding}],
--  bibs: [{number, x, y, width, height, score, settled_by, was}], lines: [...]} for photo processing, and
-- {job, turn, confidence, abstained, upright_key, lossless} for AI rotation.
-- Workers can write findings only here, and only of photos that they have settled in this same transaction, for this
-- operation. What is charged has an answer: AI rotation that abstained is only kept of a photo that is undecided.
-- They cannot read any, except the turn that a photo needs (known_turn).
CREATE FUNCTION write_findings(p_key uuid, p_found jsonb) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
#variable_conflict use_column
DECLARE v_worker bigint; v_photos uuid[]; v_found jsonb[]; v_same_as bigint[]; v_keeps_embeddings boolean[];
    v_processed uuid[]; v_turned uuid[]; v_deleted bigint[];
BEGIN
    SELECT present_worker(p_key) INTO v_worker;
    SELECT array_agg(o.photo_id), array_agg(f.found), array_agg(o.same_as) INTO v_photos, v_found, v_same_as
    FROM jsonb_array_elements(p_found) f (found)
    JOIN outcome o ON o.job_id = (f.found->>'job')::bigint JOIN queue q USING (queue_id)
    WHERE o.worker_id = v_worker AND o.xmin = pg_current_xact_id()::xid
        AND CASE WHEN f.found->'abstained' = 'true' THEN o.state = 'undecided'
                 ELSE o.state IN ('processed', 'duplicate') END
        AND f.found ? CASE q.operation WHEN 'photo_processing' THEN 'faces' ELSE 'turn' END
        AND NOT f.found ?& ARRAY['faces', 'turn'];

    -- The event may have changed since the claim. Findings are not kept if it was deleted, and embeddings are not kept
    -- if its face search was switched off. Until the caller's transaction ends, nobody can do either. So whoever does
    -- it next sees what was written (forget.sql).
    WITH e AS MATERIALIZED (
        SELECT event_id, face_search, deleted_at FROM event
        WHERE event_id IN (SELECT p.event_id FROM photo p WHERE p.photo_id = ANY (v_photos))
        ORDER BY event_id FOR KEY SHARE),
    u AS MATERIALIZED (
        SELECT u.photo_id, u.found, u.same_as, e.event_id, e.face_search, e.deleted_at
        FROM unnest(v_photos, v_found, v_same_as) u (photo_id, found, same_as)
        JOIN photo p USING (photo_id) JOIN e USING (event_id)),
    -- The worker has written the files of these already.
    left_behind AS (
        INSERT INTO leftover_file (photo_id) SELECT photo_id FROM u WHERE deleted_at IS NOT NULL ORDER BY photo_id
        ON CONFLICT DO NOTHING)
    SELECT array_agg(u.photo_id) FILTER (WHERE deleted_at IS NULL),
           array_agg(u.found) FILTER (WHERE deleted_at IS NULL),
           array_agg(u.same_as) FILTER (WHERE deleted_at IS NULL),
           array_agg(u.face_search) FILTER (WHERE deleted_at IS NULL),
           array_agg(u.photo_id) FILTER (WHERE deleted_at IS NULL AND u.found ? 'faces'),
           array_agg(DISTINCT u.event_id) FILTER (WHERE deleted_at IS NOT NULL)
    INTO v_photos, v_found, v_same_as, v_keeps_embeddings, v_processed, v_deleted
    FROM u;
    -- The hashes of what was settled a moment ago go as well.
    IF v_deleted IS NOT NULL THEN
        DELETE FROM content WHERE queue_id IN (SELECT queue_id FROM queue WHERE event_id = ANY (v_deleted));
    END IF;

    IF v_processed IS NOT NULL THEN
        DELETE FROM looked_at WHERE photo_id = ANY (v_processed);
        DELETE FROM face WHERE photo_id = ANY (v_processed);
        DELETE FROM bib WHERE photo_id = ANY (v_processed);
        INSERT INTO looked_at (photo_id, width, height, looked_turn, lines)
        SELECT photo_id, (found->>'width')::integer, (found->>'height')::integer, (found->>'looked_turn')::smallint,
               found->'lines'
        FROM unnest(v_photos, v_found) u (photo_id, found) WHERE found ? 'faces';
        INSERT INTO face (photo_id, number, x, y, width, height, score, embedding)
        SELECT u.photo_id, f.i - 1, (f.face->>'x')::real, (f.face->>'y')::real, (f.face->>'width')::real,
               (f.face->>'height')::real, least(1, greatest(0, (f.face->>'score')::real)),
               CASE WHEN u.keeps_embeddings THEN decode(f.face->>'embedding', 'hex') END
        FROM unnest(v_photos, v_found, v_keeps_embeddings) u (photo_id, found, keeps_embeddings)
        CROSS JOIN LATERAL jsonb_array_elements(u.found->'faces') WITH ORDINALITY f (face, i)
        -- Somebody has asked for this face to be erased: a restored backup may have the photo in its queue again.
        WHERE NOT EXISTS (SELECT FROM photo p JOIN erasure x USING (event_id)
                          WHERE p.photo_id = u.photo_id AND x.kind = 'person'
                              AND (u.photo_id, (f.i - 1)::smallint) IN (SELECT * FROM unnest(x.photos, x.faces)));
        INSERT INTO bib (photo_id, number, x, y, width, height, score, settled_by, was)
        -- What a process for photos says is not believed: a score is from 0 to 1.
        SELECT u.photo_id, b.number, b.x, b.y, b.width, b.height, least(1, greatest(0, b.score)), b.settled_by,
               CASE WHEN b.was IS NOT NULL AND NOT EXISTS (
                   SELECT FROM erased_bib e JOIN photo p USING (event_id)
                   WHERE p.photo_id = u.photo_id AND e.number = b.was) THEN b.was END
        FROM unnest(v_photos, v_found) u (photo_id, found)
        CROSS JOIN LATERAL jsonb_to_recordset(u.found->'bibs')
            AS b (number text, x real, y real, width real, height real, score real, settled_by settled_by, was text)
        WHERE NOT EXISTS (SELECT FROM erased_bib e JOIN photo p USING (event_id)
                          WHERE p.photo_id = u.photo_id AND e.number = b.number);
        -- Somebody has said what these photos show.
        IF EXISTS (SELECT FROM number_correction WHERE photo_id = ANY (v_processed)) THEN
            PERFORM keep_found_numbers(v_processed);
            PERFORM show_numbers(v_processed);
        END IF;
        -- A later statement: the original may be in this call, too.
        IF EXISTS (SELECT FROM unnest(v_same_as) s WHERE s IS NOT NULL) THEN
            PERFORM share_findings(array_agg(u.photo_id), array_agg(u.same_as), array_agg(u.keeps))
            FROM unnest(v_photos, v_found, v_same_as, v_keeps_embeddings) u (photo_id, found, same_as, keeps)
            WHERE u.same_as IS NOT NULL AND u.found ? 'faces';
        END IF;
    END IF;

    DELETE FROM rotation r USING unnest(v_photos, v_found) u (photo_id, found)
    WHERE r.photo_id = u.photo_id AND u.found ? 'turn';
    INSERT INTO rotation (photo_id, turn, confidence, abstained, upright_key, lossless)
    SELECT u.photo_id, r.* FROM unnest(v_photos, v_found) u (photo_id, found)
    CROSS JOIN LATERAL jsonb_to_record(u.found)
        AS r (turn smallint, confidence real, abstained boolean, upright_key text, lossless boolean)
    WHERE u.found ? 'turn';
    v_turned := ARRAY(SELECT u.photo_id FROM unnest(v_photos, v_found) u (photo_id, found) WHERE u.found ? 'turn');
    IF EXISTS (SELECT FROM turn_correction WHERE photo_id = ANY (v_turned)) THEN
        PERFORM keep_found_turns(v_turned);
        PERFORM show_turns(v_turned);
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION write_findings TO photogate_worker;
