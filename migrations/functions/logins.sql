-- Logins: how often a password may be tried.
--
-- Tries are counted in the database, so that a second instance of the service does not double them. A count goes down
-- by one every 90 seconds: whoever has tried too often is slowed down, not locked out.
-- Nobody is locked out by others: when an account is attacked from many networks, each network has fewer tries, but
-- each has some of its own.
-- Codes of second factors are different: only who knows the password can try one, and there are only a million. So when
-- too many came from everywhere, nobody may try one.

-- Counts a try, and returns the count. It does not grow far beyond the limit, so that it soon comes down again.
CREATE FUNCTION count_try(p_who text, p_most integer) RETURNS numeric
LANGUAGE sql SET search_path = photogate, pg_temp AS $$
    INSERT INTO login_try AS t (who, tries, at) VALUES (sha256(convert_to(p_who, 'UTF8')), 1, clock_timestamp())
    ON CONFLICT (who) DO UPDATE SET
        tries = least(p_most + 1,
                      -- (A time in the future: the clock was put back.)
                      1 + greatest(0, t.tries - greatest(0, extract(epoch FROM clock_timestamp() - t.at)) / 90)),
        at = clock_timestamp()
    RETURNING tries
$$;

-- Counts a try before it is made. False: there were too many. p_account is empty for a token, which nobody can guess.
-- For the code of a second factor it is 'CODE ' and the account; accounts are in lower case.
-- p_wide is the wider network that p_network is in: one customer of a provider may have many networks.
-- A try that is refused for a narrower count does not count for the wider ones: a neighbour, or a few networks, must
-- not use up what others have.
-- Lock order: the network, the wider network, the account from the network, the account.
CREATE FUNCTION may_log_in(p_wide text, p_network text, p_account text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_may boolean; v_most integer := 10;
BEGIN
    v_may := count_try('network ' || p_network, 50) <= 50;
    IF v_may THEN v_may := count_try('wide ' || p_wide, 500) <= 500; END IF;
    IF v_may AND p_account <> '' THEN
        -- The account is what a stranger has written. It comes last, so that no name can be that of another count.
        IF (SELECT greatest(0, tries - greatest(0, extract(epoch FROM clock_timestamp() - at)) / 90) FROM login_try
            WHERE who = sha256(convert_to('account ' || p_account, 'UTF8'))) >= 100 THEN
            v_most := CASE WHEN starts_with(p_account, 'CODE ') THEN 0 ELSE 2 END;
        END IF;
        v_may := count_try('from ' || p_network || ' account ' || p_account, 10) <= v_most;
        IF v_may THEN PERFORM count_try('account ' || p_account, 100); END IF;
    END IF;
    -- Counts that have come down to nothing are forgotten: a few with each try, so that they stay few.
    DELETE FROM login_try WHERE who IN (
        SELECT who FROM login_try WHERE at < clock_timestamp() - interval '1 day' LIMIT 10 FOR UPDATE SKIP LOCKED);
    RETURN v_may;
END $$;
GRANT EXECUTE ON FUNCTION may_log_in TO photogate_app;

-- A login succeeded: its own tries are forgotten, and it does not count for its networks.
CREATE FUNCTION has_logged_in(p_wide text, p_network text, p_account text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE login_try SET tries = greatest(0, tries - 1) WHERE who = sha256(convert_to('network ' || p_network, 'UTF8'));
    UPDATE login_try SET tries = greatest(0, tries - 1) WHERE who = sha256(convert_to('wide ' || p_wide, 'UTF8'));
    DELETE FROM login_try
    WHERE who = sha256(convert_to('from ' || p_network || ' account ' || p_account, 'UTF8'));
END $$;
GRANT EXECUTE ON FUNCTION has_logged_in TO photogate_app;
