-- Every ledger row is sealed into a chain of its organisation, by the statement that writes it: one link for what that
-- statement wrote. A link carries the running totals, and the SHA-256 of its own text and of the link before it.
--
-- The text of a link, lines joined by a line feed, from which anybody can compute its hash:
--     organisation first-last microseconds worker available reserved spent previous
--     transaction movement amount                                            (a line an entry, in order)
-- microseconds since 1970, UTC; worker 0 for a top-up; the totals after the last entry; previous: the hash before it in
-- hexadecimal, or - for the first. A top-up's line goes on with: kind price currency actor note key (price and currency -
-- if there are none; the last three as JSON strings).

CREATE TABLE link (
    organisation_id bigint NOT NULL,
    last_entry      bigint NOT NULL,
    first_entry     bigint NOT NULL,
    at              timestamptz NOT NULL,            -- all its entries are of this instant
    worker_id       bigint,                          -- and by this worker
    available       bigint NOT NULL,                 -- after its last entry, summed over the ledger itself
    reserved        bigint NOT NULL,
    spent           bigint NOT NULL,
    hash            bytea NOT NULL CHECK (octet_length(hash) = 32),
    CHECK (first_entry <= last_entry),
    PRIMARY KEY (organisation_id, last_entry)
);

CREATE FUNCTION seal_ledger() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    WITH written AS (
        SELECT r.organisation_id, min(r.entry) AS first, max(r.entry) AS last, min(r.at) AS at, min(r.worker_id) AS worker_id,
               sum(CASE r.movement WHEN 'top_up' THEN r.amount WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1 ELSE 0 END) AS available,
               count(*) FILTER (WHERE r.movement = 'reserve') - count(*) FILTER (WHERE r.leg = 1) AS reserved,
               count(*) FILTER (WHERE r.movement = 'commit') AS spent,
               string_agg(E'\n' || r.transaction_id || ' ' || r.movement || ' ' || r.amount ||
                   CASE WHEN r.movement = 'top_up' THEN (
                       SELECT concat_ws(' ', '', t.kind, coalesce(t.price_per_credit::text, '-'), coalesce(t.currency, '-'),
                                        to_json(t.actor), to_json(t.note), to_json(t.idempotency_key))
                       FROM top_up t WHERE t.transaction_id = r.transaction_id)
                   ELSE '' END, '' ORDER BY r.entry) AS lines
        FROM rows r GROUP BY r.organisation_id)
    INSERT INTO link (organisation_id, last_entry, first_entry, at, worker_id, available, reserved, spent, hash)
    SELECT w.organisation_id, w.last, w.first, w.at, w.worker_id, t.available, t.reserved, t.spent,
           sha256(convert_to(concat_ws(' ', w.organisation_id, w.first || '-' || w.last, (extract(epoch FROM w.at) * 1000000)::bigint,
               coalesce(w.worker_id, 0), t.available, t.reserved, t.spent, coalesce(encode(p.hash, 'hex'), '-')) || w.lines, 'UTF8'))
    FROM written w
    -- The caller holds the account's lock: nobody else appends to this chain.
    LEFT JOIN LATERAL (SELECT * FROM link l WHERE l.organisation_id = w.organisation_id ORDER BY l.last_entry DESC LIMIT 1) p ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(p.available, 0) + w.available AS available, coalesce(p.reserved, 0) + w.reserved AS reserved,
               coalesce(p.spent, 0) + w.spent AS spent) t;
    RETURN NULL;
END $$;
CREATE TRIGGER ledger_is_sealed AFTER INSERT ON ledger REFERENCING NEW TABLE AS rows
    FOR EACH STATEMENT EXECUTE FUNCTION seal_ledger();
CREATE TRIGGER link_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON link
    FOR EACH STATEMENT EXECUTE FUNCTION ledger_is_append_only();

-- What was booked before there was a chain: a link an entry, sealed by the same trigger. The rows are the same; they are
-- written again, which only the migration may.
DO $$
DECLARE v_row ledger;
BEGIN
    IF NOT EXISTS (SELECT FROM ledger) THEN RETURN; END IF;
    -- Two that waited for one lock may have been booked in the other order: as in 0008, the order of the entries counts.
    ALTER TABLE top_up DISABLE TRIGGER top_up_is_append_only;
    UPDATE top_up t SET at = l.ordered_at FROM (
        SELECT transaction_id, movement, max(at) OVER (PARTITION BY organisation_id ORDER BY entry) AS ordered_at FROM ledger) l
    WHERE l.movement = 'top_up' AND l.transaction_id = t.transaction_id;
    ALTER TABLE top_up ENABLE TRIGGER top_up_is_append_only;
    CREATE TEMPORARY TABLE old_ledger ON COMMIT DROP AS SELECT * FROM ledger;
    ALTER TABLE ledger DISABLE TRIGGER ledger_is_append_only;
    DELETE FROM ledger;
    FOR v_row IN SELECT transaction_id, leg, movement, organisation_id, entry, amount, worker_id,
                        max(at) OVER (PARTITION BY organisation_id ORDER BY entry) AS at
                 FROM old_ledger ORDER BY organisation_id, entry LOOP
        INSERT INTO ledger SELECT (v_row).*;
    END LOOP;
    ALTER TABLE ledger ENABLE TRIGGER ledger_is_append_only;
END $$;

GRANT SELECT ON link TO photogate_app;
