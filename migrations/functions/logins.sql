-- Logins: how often a password may be tried.
--
-- Tries are counted in the database, so that a second instance of the service does not double them. A count goes down
-- by one every 90 seconds: whoever has tried too often is slowed down, not locked out.
-- Nobody is locked out by others: when an account is attacked from many networks, each network has fewer tries, but
-- each has some of its own.

-- Counts a try, and returns the count. It does not grow far beyond the limit, so that it soon comes down again.
CREATE FUNCTION count_try(p_who text, p_most integer) RETURNS numeric
LANGUAGE sql SET search_path = photogate, pg_temp AS $$
    INSERT INTO login_try AS t (who, tries, at) VALUES (sha256(convert_to(p_who, 'UTF8')), 1, clock_timestamp())
    ON CONFLICT (who) DO UPDATE SET
        tries = least(p_most + 1,
                      1 + greatest(0, t.tries - extract(epoch FROM clock_timestamp() - t.at) / 90)),
        at = clock_timestamp()
    RETURNING tries
$$;

-- Counts a try before it is made. False: there were too many. p_account is empty for a token, which nobody can guess.
CREATE FUNCTION may_log_in(p_network text, p_account text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_is_attacked boolean;
BEGIN
    -- Counts that have come down to nothing are forgotten: a few with each try, so that they stay few.
    DELETE FROM login_try WHERE who IN (
        SELECT who FROM login_try WHERE at < clock_timestamp() - interval '1 day' LIMIT 10 FOR UPDATE SKIP LOCKED);
    IF count_try('network ' || p_network, 50) > 50 THEN RETURN false; END IF;
    IF p_account = '' THEN RETURN true; END IF;
    v_is_attacked := count_try('account ' || p_account, 100) > 100;
    RETURN count_try('account ' || p_account || ' from ' || p_network, 10)
        <= CASE WHEN v_is_attacked THEN 2 ELSE 10 END;
END $$;
GRANT EXECUTE ON FUNCTION may_log_in TO photogate_app;

-- A login succeeded: its own tries are forgotten, and it does not count for its network.
CREATE FUNCTION has_logged_in(p_network text, p_account text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    DELETE FROM login_try WHERE who = sha256(convert_to('account ' || p_account || ' from ' || p_network, 'UTF8'));
    UPDATE login_try SET tries = greatest(0, tries - 1) WHERE who = sha256(convert_to('network ' || p_network, 'UTF8'));
END $$;
GRANT EXECUTE ON FUNCTION has_logged_in TO photogate_app;
