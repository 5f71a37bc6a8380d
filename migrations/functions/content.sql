-- Content: a photo's bytes, by their SHA-256. A content is paid for once in an event for an operation, under whatever
-- keys it comes.
--
-- The primary key of content decides which of two copies is charged. Rows are only written while the organisation's
-- account is locked, so the second copy sees what the first one wrote, and settles as a duplicate of it, never as an
-- error. A hash tells who has which photo, so it goes when the findings go (forget.sql).

-- What is kept of a SHA-256: 16 bytes of it, in half the room. Two different photos with the same 16 bytes are not to
-- be expected, and cannot be made: it would take 2^64 tries. NULL, which the table refuses, for what is no SHA-256.
-- The function has no settings of its own, so that PostgreSQL writes it out where it is called.
CREATE FUNCTION digest_of(p_sha256 bytea) RETURNS uuid
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN octet_length(p_sha256) = 32 THEN encode(substring(p_sha256 FROM 1 FOR 16), 'hex')::uuid END
$$;

-- Takes contents for jobs that are about to be charged. Returns the jobs that are not to be charged, each with the job
-- that was charged for the same content. The caller holds the accounts of these queues.
CREATE FUNCTION take_contents(p_jobs bigint[], p_queues bigint[], p_contents bytea[])
RETURNS TABLE (r_job bigint, r_original bigint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET plan_cache_mode = force_generic_plan
SET enable_seqscan = off AS $$
DECLARE v_taken bigint[];
BEGIN
    -- Nobody else writes contents of these queues now, so what is not there can be inserted without ON CONFLICT, which
    -- writes a second record for each row.
    WITH asked AS MATERIALIZED (
        SELECT DISTINCT ON (queue_id, digest) queue_id, digest_of(sha256) AS digest, job_id
        FROM unnest(p_queues, p_contents, p_jobs) u (queue_id, sha256, job_id)
        ORDER BY queue_id, digest, job_id),
    taken AS (
        INSERT INTO content (queue_id, digest, job_id)
        SELECT a.queue_id, a.digest, a.job_id FROM asked a
        LEFT JOIN LATERAL (
            SELECT x.job_id FROM content x WHERE x.queue_id = a.queue_id AND x.digest = a.digest LIMIT 1) x ON true
        WHERE x.job_id IS NULL RETURNING content.job_id)
    SELECT array_agg(job_id) INTO v_taken FROM taken;
    IF cardinality(v_taken) = cardinality(p_jobs) THEN RETURN; END IF;
    -- A later statement: it sees the rows of this call, too.
    RETURN QUERY
    SELECT u.job_id, c.job_id
    FROM unnest(p_queues, p_contents, p_jobs) u (queue_id, sha256, job_id)
    CROSS JOIN LATERAL (
        SELECT x.job_id FROM content x WHERE x.queue_id = u.queue_id AND x.digest = digest_of(u.sha256) LIMIT 1) c
    WHERE c.job_id <> u.job_id;
END $$;

-- Shows the findings of the original on photos that are duplicates, in place of their own: what people have corrected
-- or erased there counts here, too. From then on each photo stands for itself.
-- A duplicate keeps its own findings if the original shows another content by now, if nothing is known of the original,
-- or if a person has corrected the duplicate. They are of the same content, so they say the same. It also keeps them if
-- they say more, because the search for faces or numbers was switched on after the original was looked at; but not if
-- a person was erased from the original.
-- The caller holds the event (findings.sql). p_keeps_embeddings: one for each photo.
CREATE FUNCTION share_findings(p_photos uuid[], p_originals bigint[], p_keeps_embeddings boolean[]) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
#variable_conflict use_column
DECLARE v_photos uuid[]; v_from uuid[]; v_keeps boolean[];
BEGIN
    SELECT array_agg(u.photo_id), array_agg(o.photo_id), array_agg(u.keeps) INTO v_photos, v_from, v_keeps
    FROM unnest(p_photos, p_originals, p_keeps_embeddings) u (photo_id, original, keeps)
    JOIN outcome o ON o.job_id = u.original
    WHERE o.photo_id <> u.photo_id
        AND EXISTS (SELECT FROM looked_at l WHERE l.photo_id = o.photo_id)
        AND NOT EXISTS (SELECT FROM number_correction c WHERE c.photo_id = u.photo_id)
        AND (EXISTS (SELECT FROM erasure x JOIN photo p USING (event_id)
                     WHERE p.photo_id = o.photo_id AND x.kind = 'person' AND o.photo_id = ANY (x.photos))
             OR EXISTS (SELECT FROM number_correction c WHERE c.photo_id = o.photo_id)
             OR NOT (u.keeps AND EXISTS (SELECT FROM face f WHERE f.photo_id = u.photo_id AND f.embedding IS NOT NULL)
                     AND NOT EXISTS (SELECT FROM face f WHERE f.photo_id = o.photo_id AND f.embedding IS NOT NULL)
                 OR EXISTS (SELECT FROM bib b WHERE b.photo_id = u.photo_id)
                     AND NOT EXISTS (SELECT FROM bib b WHERE b.photo_id = o.photo_id)))
        -- No later job of the original has written other findings.
        AND NOT EXISTS (
            SELECT FROM job j JOIN job later ON later.photo_id = j.photo_id AND later.queue_id = j.queue_id
                AND later.retry > j.retry
            JOIN outcome x ON x.job_id = later.job_id
            WHERE j.photo_id = o.photo_id AND j.queue_id = o.queue_id AND j.job_id = o.job_id
                AND x.state IN ('processed', 'duplicate'));
    IF v_photos IS NULL THEN RETURN; END IF;
    DELETE FROM looked_at WHERE photo_id = ANY (v_photos);
    DELETE FROM face WHERE photo_id = ANY (v_photos);
    DELETE FROM bib WHERE photo_id = ANY (v_photos);
    INSERT INTO looked_at (photo_id, width, height, looked_turn, lines)
    SELECT u.photo_id, l.width, l.height, l.looked_turn, l.lines
    FROM unnest(v_photos, v_from) u (photo_id, original) JOIN looked_at l ON l.photo_id = u.original;
    INSERT INTO face (photo_id, number, x, y, width, height, score, embedding)
    SELECT u.photo_id, f.number, f.x, f.y, f.width, f.height, f.score, CASE WHEN u.keeps THEN f.embedding END
    FROM unnest(v_photos, v_from, v_keeps) u (photo_id, original, keeps) JOIN face f ON f.photo_id = u.original;
    INSERT INTO bib (photo_id, number, x, y, width, height, score, settled_by, was)
    SELECT u.photo_id, b.number, b.x, b.y, b.width, b.height, b.score, b.settled_by, b.was
    FROM unnest(v_photos, v_from) u (photo_id, original) JOIN bib b ON b.photo_id = u.original;
    INSERT INTO number_correction (photo_id, numbers, complete, found, actor, at)
    SELECT u.photo_id, c.numbers, c.complete, c.found, c.actor, c.at
    FROM unnest(v_photos, v_from) u (photo_id, original) JOIN number_correction c ON c.photo_id = u.original;
END $$;

-- Deletes at most p_n hashes of an event's photos. Returns whether some may be left.
CREATE FUNCTION forget_contents(p_event bigint, p_n integer) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_n integer;
BEGIN
    DELETE FROM content WHERE ctid = ANY (ARRAY(
        SELECT c.ctid FROM queue q JOIN content c USING (queue_id) WHERE q.event_id = p_event LIMIT p_n));
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n = p_n;
END $$;
