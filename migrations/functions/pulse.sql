-- The pulse of queues: how many photos were settled in each slot of five minutes. Nothing is decided by it: pages draw
-- it. A settlement does not write it. When a slot has ended, one worker compares what each queue has settled with what
-- was counted before.

-- The slot of an instant: periods of five minutes since 1970.
CREATE FUNCTION slot_of(p_at timestamptz) RETURNS integer
LANGUAGE sql STABLE AS $$ SELECT floor(extract(epoch FROM p_at) / 300)::integer $$;
GRANT EXECUTE ON FUNCTION slot_of TO photogate_worker;

-- Photos of each queue that were settled, and that failed, since its pulse was taken.
CREATE FUNCTION pulse_since(OUT queue_id bigint, OUT settled bigint, OUT failed bigint) RETURNS SETOF record
LANGUAGE sql STABLE AS $$
    SELECT queue_id, committed + refunded - coalesce(t.settled, 0),
           refunded - undecided - duplicates - coalesce(t.failed, 0)
    FROM queue_settled LEFT JOIN pulse_taken t USING (queue_id)
    WHERE committed + refunded > coalesce(t.settled, 0)
$$;
GRANT EXECUTE ON FUNCTION pulse_since TO photogate_app;

-- Takes the pulse of all queues, as that of a slot. Of several workers that do it, one takes it; the others find it
-- taken. Returns the number of queues that have settled something.
CREATE FUNCTION take_pulse(p_slot integer) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_queues bigint;
BEGIN
    IF NOT pg_try_advisory_xact_lock(hashtext('photogate.pulse')) THEN RETURN 0; END IF;
    -- Later statements than the lock, so that they see what another worker has taken.
    IF EXISTS (SELECT FROM pulse WHERE slot >= p_slot AND slot < p_slot + 12) THEN RETURN 0; END IF;
    -- Three hours are drawn. Slots of the future are of a clock that was wrong.
    DELETE FROM pulse WHERE slot < p_slot - 36 OR slot > p_slot;
    WITH since AS MATERIALIZED (SELECT * FROM pulse_since()),
    taken AS (
        INSERT INTO pulse_taken AS t (queue_id, settled, failed) SELECT queue_id, settled, failed FROM since
        ON CONFLICT (queue_id) DO UPDATE SET
            settled = t.settled + EXCLUDED.settled,
            failed = t.failed + EXCLUDED.failed),
    beaten AS (INSERT INTO pulse (slot, queue_id, settled, failed) SELECT p_slot, queue_id, settled, failed FROM since)
    SELECT count(*) INTO v_queues FROM since;
    RETURN v_queues;
END $$;
GRANT EXECUTE ON FUNCTION take_pulse TO photogate_worker;
