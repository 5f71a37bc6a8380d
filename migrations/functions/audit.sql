-- The audit log is append-only, and each entry is sealed into a hash chain of its organisation.
--
-- An entry's hash is the SHA-256 of its text and, through it, of the entry before. The text is one line, so that
-- anybody can compute it:
--     chain link microseconds actor action subject detail previous
-- microseconds: since 1970, UTC. actor, action and subject are JSON strings; detail is JSON as PostgreSQL prints it.
-- previous: the hash of the entry before it in hexadecimal, or - for the first one.
-- src/access/audit_log/verify.rs computes the same: change both together.
--
-- Lock order: the end of the chain comes last. Whoever writes an entry has done everything else, and commits next:
-- another change of the same organisation waits for that. Whoever writes to several chains writes in their order.
-- A pipeline writes in a transaction that is not ours, and that may stay open. So each pipeline has a chain of its own,
-- for which nobody else waits: a top-up that waited for it would have the account, and settlements wait for accounts.

CREATE OR REPLACE FUNCTION audit_log_is_append_only() RETURNS trigger
LANGUAGE plpgsql SET search_path = photogate, pg_temp AS $$
BEGIN
    RAISE EXCEPTION 'the audit log is append-only' USING ERRCODE = 'PG005';
END $$;

-- Locks the end of a chain.
CREATE FUNCTION lock_audit_chain(p_chain bigint) RETURNS audit_chain
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_end audit_chain;
BEGIN
    INSERT INTO audit_chain (chain, links) VALUES (p_chain, 0) ON CONFLICT DO NOTHING;
    SELECT * INTO v_end FROM audit_chain WHERE chain = p_chain FOR NO KEY UPDATE;
    RETURN v_end;
END $$;

CREATE OR REPLACE FUNCTION seal_audit_entry() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_chain bigint := coalesce(-NEW.pipeline_id, NEW.organisation_id, 0); v_before audit_chain;
BEGIN
    SELECT * INTO v_before FROM lock_audit_chain(v_chain);
    NEW.link := v_before.links + 1;
    NEW.hash := sha256(convert_to(concat_ws(' ', v_chain, NEW.link, (extract(epoch FROM NEW.at) * 1000000)::bigint,
        to_json(NEW.actor), to_json(NEW.action), to_json(NEW.subject), NEW.detail,
        coalesce(encode(v_before.hash, 'hex'), '-')), 'UTF8'));
    UPDATE audit_chain SET links = NEW.link, hash = NEW.hash WHERE chain = v_chain;
    RETURN NEW;
END $$;

DO $$
BEGIN
    IF NOT EXISTS (SELECT FROM pg_trigger
                   WHERE tgrelid = 'audit_log'::regclass AND tgname = 'audit_entry_is_sealed') THEN
        CREATE TRIGGER audit_entry_is_sealed BEFORE INSERT ON audit_log
            FOR EACH ROW EXECUTE FUNCTION seal_audit_entry();
        CREATE TRIGGER audit_log_is_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON audit_log
            FOR EACH STATEMENT EXECUTE FUNCTION audit_log_is_append_only();
    END IF;
END $$;
