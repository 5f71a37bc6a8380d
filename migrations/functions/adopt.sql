-- Adopt: a worker declares others dead whose lease ran out, and takes over what nobody has: the same reservation, the
-- next attempt.
--
-- Lock order: the worker's own lease (KEY SHARE), then in_flight rows, then (for what is quarantined) accounts. Whoever
-- else holds the rows or the leases it wants is passed over (SKIP LOCKED), not waited for.
-- Three counters: attempt is the fence, and grows with every owner; crashes leads to quarantine; retries leads to
-- giving up. A photo that deployments handed back three times is no suspect.

-- It is fair over organisations: each that has something due gets an equal share of p_n (rounded up, so that the last
-- of a random order may get less). A share that is not used is not given to others: as long as it adopts anything, ask
-- again.
-- A photo with two crashes is a suspect. At most p_suspects suspects are taken, so that a photo that kills its worker
-- does not add a third crash to other photos. A photo with p_crashes crashes is quarantined and refunded. p_n,
-- p_suspects and p_crashes are limits, not counts.
CREATE FUNCTION adopt(p_key uuid, p_n integer, p_suspects integer, p_crashes smallint)
RETURNS TABLE (r_job bigint, r_attempt integer, r_organisation bigint, r_event bigint, r_operation operation,
               r_photo uuid, r_key text, r_payload jsonb, r_bib_search boolean, r_face_search boolean,
               r_retries smallint, r_crashes smallint)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
#variable_conflict use_column
DECLARE v_worker bigint; v_dead bigint[]; v_jobs bigint[]; v_attempts integer[]; v_now timestamptz;
BEGIN
    SELECT leased_worker(p_key) INTO v_worker;

    -- 1. Declares workers dead. FOR UPDATE conflicts with the KEY SHARE lock of a claim. A weaker lock would not.
    -- When the database was away, everybody's lease may have run out. So only a worker whose own heartbeats have come
    -- for 5 seconds without a gap declares others dead: they had that time to extend their leases. The start of
    -- PostgreSQL does not tell, because a standby has started long before it is promoted.
    WITH late AS (
        SELECT worker_id FROM worker
        WHERE gone_at IS NULL AND worker_id <> v_worker AND lease_until < clock_timestamp()
            AND (SELECT me.beats_since + interval '5 s' < clock_timestamp() FROM worker me
                 WHERE me.worker_id = v_worker)
        ORDER BY worker_id FOR UPDATE SKIP LOCKED),
    dead AS (
        UPDATE worker w SET gone_at = clock_timestamp() FROM late WHERE w.worker_id = late.worker_id
        RETURNING w.worker_id)
    SELECT array_agg(worker_id) INTO v_dead FROM dead;

    -- 2. Their photos. This is a later statement than the lock: it sees what the dead claimed last. Whoever changes
    -- photos of a worker holds the worker's lease (KEY SHARE), so nobody has these locked, and none is left behind. To
    -- look for more photos of workers that are gone would read the whole table.
    WITH lost AS (
        SELECT f.ctid AS row, f.worker_id FROM in_flight f WHERE f.worker_id = ANY (v_dead)
        ORDER BY f.job_id FOR UPDATE),
    orphaned AS (
        UPDATE in_flight f SET worker_id = 0, due_at = clock_timestamp(), crashes = f.crashes + 1
        FROM lost WHERE f.ctid = lost.row
        RETURNING f.job_id, f.attempt, f.since, lost.worker_id)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended)
    SELECT job_id, attempt, worker_id, since, 'worker_gone' FROM orphaned;

    -- 3. Quarantine: what crashed too often is refunded.
    SELECT array_agg(job_id), array_agg(attempt) INTO v_jobs, v_attempts FROM (
        SELECT job_id, attempt FROM in_flight
        WHERE worker_id = 0 AND due_at <= clock_timestamp() AND crashes > 1 AND crashes >= p_crashes
        ORDER BY job_id LIMIT greatest(p_n, 1) FOR UPDATE SKIP LOCKED) s;
    IF v_jobs IS NOT NULL THEN
        PERFORM close_reservations(0, v_worker, v_jobs, v_attempts,
            array_fill('quarantined'::outcome_state, ARRAY[cardinality(v_jobs)]),
            array_fill('crashed'::text, ARRAY[cardinality(v_jobs)]),
            array_fill(format('%s attempts crashed with this photo', p_crashes), ARRAY[cardinality(v_jobs)]));
    END IF;

    -- 4. Takes what is due: first suspects, of which few are allowed, then what is clean. Each organisation's first due
    -- photo is found by a skip scan of a partial index.
    v_now := clock_timestamp();                            -- the planner knows it: it ends a scan of the index
    RETURN QUERY
    WITH RECURSIVE with_suspects (organisation_id, due_at) AS (
        (SELECT organisation_id, due_at FROM in_flight
         WHERE worker_id = 0 AND crashes > 1 AND crashes < p_crashes
         ORDER BY organisation_id, due_at LIMIT 1)
        UNION ALL
        SELECT n.* FROM with_suspects o CROSS JOIN LATERAL (
            SELECT organisation_id, due_at FROM in_flight
            WHERE worker_id = 0 AND crashes > 1 AND crashes < p_crashes AND organisation_id > o.organisation_id
            ORDER BY organisation_id, due_at LIMIT 1) n),
    with_clean (organisation_id, due_at) AS (
        (SELECT organisation_id, due_at FROM in_flight WHERE worker_id = 0 AND crashes < 2
         ORDER BY organisation_id, due_at LIMIT 1)
        UNION ALL
        SELECT n.* FROM with_clean o CROSS JOIN LATERAL (
            SELECT organisation_id, due_at FROM in_flight
            WHERE worker_id = 0 AND crashes < 2 AND organisation_id > o.organisation_id
            ORDER BY organisation_id, due_at LIMIT 1) n),
    suspect AS MATERIALIZED (
        SELECT c.row
        FROM (SELECT organisation_id, count(*) OVER () AS n
              FROM (SELECT * FROM with_suspects WHERE due_at <= v_now
                    ORDER BY random() LIMIT least(p_suspects, p_n)) s) o
        CROSS JOIN LATERAL (
            SELECT ctid AS row FROM in_flight
            WHERE worker_id = 0 AND organisation_id = o.organisation_id AND due_at <= v_now
                AND crashes > 1 AND crashes < p_crashes
            ORDER BY due_at LIMIT (least(p_suspects, p_n) + o.n - 1) / o.n FOR UPDATE SKIP LOCKED) c
        LIMIT least(p_suspects, p_n)),
    room AS MATERIALIZED (SELECT p_n - count(*) AS n FROM suspect),
    clean AS MATERIALIZED (
        SELECT c.row
        FROM (SELECT organisation_id, count(*) OVER () AS n
              FROM (SELECT * FROM with_clean WHERE due_at <= v_now
                    ORDER BY random() LIMIT (SELECT n FROM room)) s) o
        CROSS JOIN LATERAL (
            SELECT ctid AS row FROM in_flight
            WHERE worker_id = 0 AND organisation_id = o.organisation_id AND due_at <= v_now
                AND crashes < 2 AND crashes < p_crashes
            ORDER BY due_at LIMIT ((SELECT n FROM room) + o.n - 1) / o.n FOR UPDATE SKIP LOCKED) c
        LIMIT (SELECT n FROM room)),
    taken AS (
        UPDATE in_flight f SET
            worker_id = v_worker,
            attempt = f.attempt + 1,
            due_at = NULL,
            since = clock_timestamp()
        FROM (SELECT row FROM suspect UNION ALL SELECT row FROM clean) c WHERE f.ctid = c.row
        RETURNING f.*)
    SELECT t.job_id, t.attempt, t.organisation_id, q.event_id, q.operation, t.photo_id, p.key,
           -- A job that is in flight is the latest of its photo.
           (SELECT j.payload FROM latest_job(t.photo_id, t.queue_id) j), e.bib_search, e.face_search, t.retries,
           t.crashes
    FROM taken t
    JOIN queue q USING (queue_id)
    JOIN photo p USING (photo_id)
    JOIN event e ON e.event_id = q.event_id;
END $$;
GRANT EXECUTE ON FUNCTION adopt TO photogate_worker;
