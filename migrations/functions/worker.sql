-- Workers: a process begins, keeps its lease, and leaves.
--
-- Claim, adopt and settle begin with the worker's own lease check, FOR KEY SHARE. Whoever declares a worker dead, or
-- gone, takes its row FOR UPDATE, and so waits for them or skips it. gone_at is final.
--
-- A worker names itself by the key that it got when it registered. Everybody who reads the books knows the number of a
-- worker; only the worker itself has the key, and so no other worker can settle its photos or end it. (The application
-- can end all of them at once: retire_all_workers.)

-- The length of a lease, if it is one that a worker may have. While a lease lasts, nobody adopts the worker's photos.
CREATE FUNCTION lease_of(p_lease interval) RETURNS interval
LANGUAGE plpgsql IMMUTABLE SET search_path = photogate, pg_temp AS $$
BEGIN
    IF p_lease BETWEEN interval '1 ms' AND interval '1 day' THEN RETURN p_lease; END IF;
    RAISE EXCEPTION 'a lease lasts for a day at most' USING ERRCODE = 'PG006';
END $$;

-- A worker process begins: a new incarnation with a lease and a key.
CREATE FUNCTION register_worker(p_name text, p_slots integer, p_lease interval, OUT r_worker bigint, OUT r_key uuid)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM check_clock(clock_timestamp(), NULL);
    r_key := gen_random_uuid();
    INSERT INTO worker (name, key_hash, slots, lease_until)
    VALUES (p_name, sha256(uuid_send(r_key)), p_slots, clock_timestamp() + lease_of(p_lease))
    RETURNING worker_id INTO r_worker;
END $$;
GRANT EXECUTE ON FUNCTION register_worker TO photogate_worker;

-- The worker with this key, if it is not gone, and the end of its lease. Whoever declares it dead cannot pass until the
-- caller commits. Heartbeats rewrite the row, and so it is looked for from the end of its index, as in claim.sql.
-- "Not gone" is asked outside: otherwise PostgreSQL may read the whole index of the workers that are present.
-- This and the next two run with the rights and the search path of the caller: each claim and settlement calls them.
CREATE FUNCTION locked_worker(p_key uuid, OUT r_worker bigint, OUT r_lease_until timestamptz)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE v_hash bytea := sha256(uuid_send(p_key));
BEGIN
    SELECT worker_id, lease_until INTO r_worker, r_lease_until FROM (
        SELECT * FROM worker WHERE key_hash BETWEEN v_hash AND v_hash
        ORDER BY key_hash DESC LIMIT 1 FOR KEY SHARE) w
    WHERE gone_at IS NULL;
END $$;

-- The worker with this key, if it has a lease.
CREATE FUNCTION leased_worker(p_key uuid) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE v_worker record := locked_worker(p_key);
BEGIN
    IF v_worker.r_lease_until > clock_timestamp() THEN RETURN v_worker.r_worker; END IF;
    RAISE EXCEPTION 'this worker has no lease' USING ERRCODE = 'PG001';
END $$;

-- The same, also if its lease has run out. NULL: it is gone.
CREATE FUNCTION present_worker(p_key uuid) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE v_worker record := locked_worker(p_key);
BEGIN
    RETURN v_worker.r_worker;
END $$;

-- Extends the lease. A lease that has run out can still be extended, until another worker has set gone_at. Until then,
-- the jobs belong to this worker. False: the worker is gone for good.
-- Workers send five heartbeats in a lease. If more than half a lease has passed since the last one, this worker or the
-- database was away: see adopt.
CREATE FUNCTION heartbeat(p_key uuid, p_lease interval) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    -- A lease that ran out long ago may mean that the clock has jumped.
    PERFORM check_clock(clock_timestamp(), lease_until)
    FROM worker WHERE key_hash = sha256(uuid_send(p_key)) AND lease_until < clock_timestamp() - interval '1 day';
    UPDATE worker SET
        -- (A time in the future: the clock was put back.)
        beats_since = CASE WHEN clock_timestamp() > lease_until - p_lease / 2 OR beats_since > clock_timestamp()
                           THEN clock_timestamp() ELSE beats_since END,
        lease_until = clock_timestamp() + lease_of(p_lease)
    WHERE key_hash = sha256(uuid_send(p_key)) AND gone_at IS NULL;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION heartbeat TO photogate_worker;

-- A worker that was told to stop says so: it claims nothing more, and finishes what it has.
CREATE FUNCTION drain_worker(p_key uuid) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE worker SET draining_since = coalesce(draining_since, now())
    WHERE key_hash = sha256(uuid_send(p_key)) AND gone_at IS NULL;
$$;
GRANT EXECUTE ON FUNCTION drain_worker TO photogate_worker;

-- A worker says why it claims nothing for now: something that all photos need is away. NULL: it claims.
CREATE FUNCTION tell_stopped(p_key uuid, p_reason text) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE worker SET
        stopped_by = left(p_reason, 100),
        stopped_since = CASE WHEN p_reason IS NOT NULL THEN coalesce(stopped_since, clock_timestamp()) END
    WHERE key_hash = sha256(uuid_send(p_key)) AND gone_at IS NULL;
$$;
GRANT EXECUTE ON FUNCTION tell_stopped TO photogate_worker;

-- Hands back jobs that the database lists for this worker and that the worker does not know. An answer of claim or
-- adopt was lost on its way, after the commit. Returns how many jobs these were.
CREATE FUNCTION hand_back_unknown(p_key uuid, p_known bigint[]) RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_worker bigint; v_n integer;
BEGIN
    SELECT present_worker(p_key) INTO v_worker;
    IF v_worker IS NULL THEN RETURN 0; END IF;
    WITH given AS (
        UPDATE in_flight SET worker_id = 0, due_at = clock_timestamp()
        WHERE worker_id = v_worker AND job_id <> ALL (p_known)
        RETURNING job_id, attempt, since)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended, reason)
    SELECT job_id, attempt, v_worker, since, 'handed_back', 'answer_lost' FROM given;
    GET DIAGNOSTICS v_n = ROW_COUNT;
    RETURN v_n;
END $$;
GRANT EXECUTE ON FUNCTION hand_back_unknown TO photogate_worker;

-- A worker leaves, and leaves nothing behind.
CREATE FUNCTION retire_worker(p_key uuid) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    -- This waits for a claim of ours whose connection was cut, and whose answer nobody will read.
    PERFORM 1 FROM worker WHERE key_hash = sha256(uuid_send(p_key)) FOR UPDATE;
    PERFORM hand_back_unknown(p_key, '{}');
    UPDATE worker SET gone_at = clock_timestamp() WHERE key_hash = sha256(uuid_send(p_key)) AND gone_at IS NULL;
END $$;
GRANT EXECUTE ON FUNCTION retire_worker TO photogate_worker;

-- After a restore: every worker of before is gone, and holds nothing. Such a worker may still run, with photos that it
-- claimed after the instant to which the database was restored. The numbers of those jobs are given again, to other
-- photos: without this, it could settle what it never looked at.
CREATE FUNCTION retire_all_workers() RETURNS integer
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_workers bigint[];
BEGIN
    SELECT array_agg(worker_id) INTO v_workers
    FROM (SELECT worker_id FROM worker WHERE gone_at IS NULL ORDER BY worker_id FOR UPDATE) w;
    -- A later statement than the lock, as in adopt.sql. It is no crash: the photos are not to blame.
    WITH held AS (
        SELECT f.ctid AS row, f.worker_id FROM in_flight f WHERE f.worker_id = ANY (v_workers)
        ORDER BY f.job_id FOR UPDATE),
    given AS (
        UPDATE in_flight f SET worker_id = 0, due_at = clock_timestamp() FROM held WHERE f.ctid = held.row
        RETURNING f.job_id, f.attempt, f.since, held.worker_id)
    INSERT INTO attempt (job_id, number, worker_id, started_at, ended, reason)
    SELECT job_id, attempt, worker_id, since, 'handed_back', 'restored' FROM given;
    UPDATE worker SET gone_at = clock_timestamp() WHERE worker_id = ANY (v_workers);
    RETURN coalesce(cardinality(v_workers), 0);
END $$;
GRANT EXECUTE ON FUNCTION retire_all_workers TO photogate_app;
