-- Finders: the pages on which athletes look for their photos of an event, without an account.

-- Switches the finder of an event. p_public NULL: off, also of an event that was deleted. p_replace: its link becomes
-- another one, and the old one leads nowhere. Returns whether anything has changed.
CREATE FUNCTION set_finder(p_event bigint, p_public boolean, p_replace boolean, p_actor text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    IF p_public IS NULL THEN
        DELETE FROM finder WHERE event_id = p_event;
        RETURN FOUND;
    END IF;
    PERFORM 1 FROM event WHERE event_id = p_event AND deleted_at IS NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN RAISE EXCEPTION 'no event %', p_event USING ERRCODE = 'PG002'; END IF;
    INSERT INTO finder AS f (event_id, secret, is_public, set_by)
    -- 128 bits of 244 random ones. It is made here, so that no statement in a log of the server has it.
    VALUES (p_event, left(encode(sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid())), 'hex'), 32),
            p_public, p_actor)
    ON CONFLICT (event_id) DO UPDATE
    SET secret = CASE WHEN p_replace THEN excluded.secret ELSE f.secret END, is_public = excluded.is_public,
        set_by = excluded.set_by, set_at = excluded.set_at
    WHERE p_replace OR f.is_public <> excluded.is_public;
    RETURN FOUND;
END $$;
GRANT EXECUTE ON FUNCTION set_finder TO photogate_app;
