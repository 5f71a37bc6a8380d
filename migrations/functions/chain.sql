-- The ledger is append-only, and each of its rows is sealed into a hash chain of its organisation.
--
-- A chain has one link for each statement that wrote the ledger. A link carries the running totals, and the SHA-256 of
-- its own text and of the link before it. Whoever writes the ledger holds the account's lock, so nobody else appends to
-- that chain at the same time.
--
-- The text of a link is lines joined by a line feed, so that anybody can compute its hash:
--     organisation first-last microseconds worker available reserved spent previous
--     transaction movement amount                                            (one line an entry, in order)
-- microseconds: since 1970, UTC. worker: 0 for a top-up. The totals are those after the last entry. previous: the hash
-- of the link before it in hexadecimal, or - for the first link. The line of a top-up goes on with: kind price currency
-- actor note key (price and currency are - if there are none; the last three are JSON strings).
-- src/ledger/hash_chain.rs computes the same: change both together.

-- Raises an error. It stops the owner of the tables too; grants do not stop an owner.
CREATE OR REPLACE FUNCTION ledger_is_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = photogate, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the ledger is append-only: correct it with a new entry, such as an adjustment'
        USING ERRCODE = 'PG005';
END $$;

-- A month that has not begun says nothing that is true. It can be taken back, after the clock was wrong.
CREATE OR REPLACE FUNCTION month_has_not_begun() RETURNS trigger
LANGUAGE plpgsql SET search_path = photogate, pg_temp AS $$
BEGIN
    IF (SELECT day_begins(OLD.month, o.time_zone) > clock() FROM organisation o
        WHERE o.organisation_id = OLD.organisation_id) THEN
        RETURN OLD;
    END IF;
    RAISE EXCEPTION 'a month that has begun is never taken back' USING ERRCODE = 'PG005';
END $$;

DO $$
DECLARE v_table text; v_when text; v_for text; v_function text; v_trigger text;
BEGIN
    FOR v_table, v_trigger, v_when, v_for, v_function IN VALUES
        ('ledger', 'ledger_is_append_only', 'UPDATE OR DELETE OR TRUNCATE', 'STATEMENT', 'ledger_is_append_only'),
        ('link', 'link_is_append_only', 'UPDATE OR DELETE OR TRUNCATE', 'STATEMENT', 'ledger_is_append_only'),
        -- Not shown_at, which says where a page shows the row.
        ('top_up', 'top_up_is_append_only', 'UPDATE OF transaction_id, organisation_id, kind, amount, actor, note,
             idempotency_key, at, price_per_credit, currency OR DELETE OR TRUNCATE',
         'STATEMENT', 'ledger_is_append_only'),
        ('month', 'month_is_append_only', 'UPDATE OR TRUNCATE', 'STATEMENT', 'ledger_is_append_only'),
        ('month', 'month_is_kept', 'DELETE', 'ROW', 'month_has_not_begun')
    LOOP
        IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = v_table::regclass AND tgname = v_trigger) THEN
            EXECUTE format('CREATE TRIGGER %I BEFORE %s ON %I FOR EACH %s EXECUTE FUNCTION %I()',
                           v_trigger, v_when, v_table, v_for, v_function);
        END IF;
    END LOOP;
END $$;

-- Seals what one statement wrote: one link for each organisation.
CREATE OR REPLACE FUNCTION seal_ledger() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    WITH written AS (
        SELECT r.organisation_id, min(r.entry) AS first, max(r.entry) AS last, min(r.at) AS at,
               min(r.worker_id) AS worker_id,
               -- How the balances move: summed over the rows themselves, not taken from the account.
               sum(CASE r.movement WHEN 'top_up' THEN r.amount WHEN 'reserve' THEN -1 WHEN 'refund' THEN 1
                                   ELSE 0 END) AS available,
               count(*) FILTER (WHERE r.movement = 'reserve') - count(*) FILTER (WHERE r.leg = 1) AS reserved,
               count(*) FILTER (WHERE r.movement = 'commit') AS spent,
               string_agg(E'\n' || r.transaction_id || ' ' || r.movement || ' ' || r.amount ||
                   CASE WHEN r.movement = 'top_up' THEN (
                       SELECT concat_ws(' ', '', t.kind, coalesce(t.price_per_credit::text, '-'),
                                        coalesce(t.currency, '-'),
                                        to_json(t.actor), to_json(t.note), to_json(t.idempotency_key))
                       FROM top_up t WHERE t.transaction_id = r.transaction_id)
                   ELSE '' END, '' ORDER BY r.entry) AS lines
        FROM rows r GROUP BY r.organisation_id)
    INSERT INTO link (organisation_id, last_entry, first_entry, at, worker_id, available, reserved, spent, hash)
    SELECT w.organisation_id, w.last, w.first, w.at, w.worker_id, t.available, t.reserved, t.spent,
           sha256(convert_to(concat_ws(' ', w.organisation_id, w.first || '-' || w.last,
               (extract(epoch FROM w.at) * 1000000)::bigint, coalesce(w.worker_id, 0),
               t.available, t.reserved, t.spent, coalesce(encode(p.hash, 'hex'), '-')) || w.lines, 'UTF8'))
    FROM written w
    -- The link before: the caller holds the account's lock, so nobody else appends to this chain.
    LEFT JOIN LATERAL (
        SELECT * FROM link l WHERE l.organisation_id = w.organisation_id ORDER BY l.last_entry DESC LIMIT 1) p ON true
    CROSS JOIN LATERAL (
        SELECT coalesce(p.available, 0) + w.available AS available, coalesce(p.reserved, 0) + w.reserved AS reserved,
               coalesce(p.spent, 0) + w.spent AS spent) t;
    RETURN NULL;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'ledger'::regclass AND tgname = 'ledger_is_sealed') THEN
        CREATE TRIGGER ledger_is_sealed AFTER INSERT ON ledger REFERENCING NEW TABLE AS rows
            FOR EACH STATEMENT EXECUTE FUNCTION seal_ledger();
    END IF;
END $$;
