-- When the books were checked, and what was found. Workers take turns: one checks, for all.

CREATE TYPE reconciliation_kind AS ENUM ('incremental', 'full');

CREATE TABLE reconciliation (
    reconciliation_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    kind       reconciliation_kind NOT NULL,
    worker_id  bigint NOT NULL,
    started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    ended_at   timestamptz,
    violations bigint,
    broken     jsonb,                                -- the invariants that do not hold, with organisations and rows
    CHECK ((ended_at IS NULL) = (violations IS NULL) AND (violations > 0) = (broken IS NOT NULL))
);
CREATE INDEX reconciliation_latest ON reconciliation (kind, started_at);

-- It is p_worker's turn if nobody has begun one of this kind for p_every. NULL: it is not.
CREATE FUNCTION begin_reconciliation(p_worker bigint, p_kind reconciliation_kind, p_every interval) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_id bigint;
BEGIN
    IF NOT EXISTS (SELECT FROM worker WHERE worker_id = p_worker AND gone_at IS NULL) THEN RETURN NULL; END IF;
    IF NOT pg_try_advisory_xact_lock(7236410916) THEN RETURN NULL; END IF;
    IF EXISTS (SELECT FROM reconciliation WHERE kind = p_kind AND started_at > clock_timestamp() - p_every
               -- One that was interrupted is no check.
               AND (ended_at IS NOT NULL OR started_at > clock_timestamp() - interval '1 hour')) THEN RETURN NULL; END IF;
    -- What found nothing is forgotten after a week; what found something, and every full one, is kept.
    DELETE FROM reconciliation WHERE kind = 'incremental' AND coalesce(violations, 0) = 0 AND started_at < clock_timestamp() - interval '7 days';
    INSERT INTO reconciliation (kind, worker_id) VALUES (p_kind, p_worker) RETURNING reconciliation_id INTO v_id;
    RETURN v_id;
END $$;

CREATE FUNCTION end_reconciliation(p_id bigint, p_violations bigint, p_broken jsonb) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE reconciliation SET ended_at = clock_timestamp(), violations = p_violations, broken = CASE WHEN p_violations > 0 THEN p_broken END
    WHERE reconciliation_id = p_id AND ended_at IS NULL
$$;

GRANT SELECT ON reconciliation TO photogate_app;
GRANT EXECUTE ON FUNCTION begin_reconciliation, end_reconciliation TO photogate_worker;

-- Refunds are looked up by time.
CREATE INDEX outcome_refunded_at ON outcome (settled_at) WHERE state <> 'processed';
