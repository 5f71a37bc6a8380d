-- A worker that was told to stop says so: it claims nothing more, and finishes what it has.

ALTER TABLE worker ADD COLUMN draining_since timestamptz;

CREATE FUNCTION drain_worker(p_worker bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE worker SET draining_since = coalesce(draining_since, now()) WHERE worker_id = p_worker AND gone_at IS NULL;
$$;
REVOKE ALL ON FUNCTION drain_worker FROM PUBLIC;
GRANT EXECUTE ON FUNCTION drain_worker TO photogate_worker;
