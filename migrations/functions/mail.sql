-- E-mail: people are told of changes, each by a mail that says all that waits for them, at least once.
--
-- A mailbox reads the feed of its organisation by a cursor. Whoever numbers a change notes which mailboxes hear it. A
-- worker takes a mailbox under a lease, sends one mail outside of any transaction, and says what came of it: then the
-- cursor moves. A worker that dies leaves a lease that runs out, and the same mail is sent again: what it says is fixed
-- when it is taken first (upto).
-- A server that cannot be reached, or that refuses everybody, rests as a whole. What concerns one address is noted with
-- that address.
-- Lock order: change_end, webhooks, mailboxes; mail_server after a mailbox; the audit log comes last.

-- What a type belongs to.
CREATE FUNCTION topic_of(p_type change_type) RETURNS mail_topic
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_type::text IN ('event.paused', 'event.resumed', 'event.finished') THEN 'events'
        WHEN p_type::text LIKE 'event.%' THEN 'holds'
        WHEN p_type::text IN ('run.finished', 'run.cancelled', 'run.undone') THEN 'runs'
        -- Too many, or nobody's news: no mail says that photos were queued, claimed or settled, or that somebody tries.
        WHEN p_type::text LIKE 'run.%' OR p_type::text IN ('photo.processed', 'webhook.ping') THEN NULL
        WHEN p_type::text LIKE 'alert.%' THEN 'alerts'
        WHEN p_type IN ('credits.added', 'auto_top_up.stopped') THEN 'credits'
        WHEN p_type IN ('purchase.asked', 'purchase.decided', 'payment.kept') THEN 'purchases'
        ELSE 'technical' END::mail_topic
$$;

-- What should be known within seconds.
CREATE FUNCTION is_urgent_mail(p_type change_type) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_type IN ('event.paused', 'alert.raised', 'payment.kept')
$$;

-- The last part of a link in a mail. Who has it may do what it says, without a login.
CREATE FUNCTION mail_token(p_mailbox mailbox, p_what text) RETURNS text
LANGUAGE sql IMMUTABLE AS $$
    SELECT encode(sha256(p_mailbox.key || convert_to(p_what || CASE WHEN p_what = 'confirm'
        THEN (extract(epoch FROM p_mailbox.confirm_asked_at) * 1000000)::bigint::text ELSE '' END, 'UTF8')), 'hex')
$$;

-- The position of the last change of an organisation.
CREATE FUNCTION last_change(p_organisation bigint) RETURNS bigint
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT coalesce((SELECT position FROM change_end WHERE organisation_id = p_organisation), 0)
$$;

-- Locks the mailboxes of an organisation that may hear its new changes, and waits for none. False: somebody has one.
-- Most changes are of photos and runs, and no mail says those. Nobody may call it but number_changes.
CREATE FUNCTION have_mailboxes(p_organisation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM mailbox WHERE organisation_id = p_organisation) OR NOT EXISTS (
        SELECT FROM new_change WHERE organisation_id = p_organisation AND topic_of(type) IS NOT NULL)
    THEN
        RETURN true;
    END IF;
    RETURN (SELECT count(*) FROM mailbox WHERE organisation_id = p_organisation AND topics <> '{}') = (
        SELECT count(*) FROM (SELECT FROM mailbox WHERE organisation_id = p_organisation AND topics <> '{}'
                              ORDER BY person_id FOR NO KEY UPDATE SKIP LOCKED) m);
END $$;

-- Notes which mailboxes hear an organisation's changes after p_after. The caller has the organisation's change_end, and
-- its mailboxes. Nobody may call it but number_changes.
CREATE FUNCTION tell_mailboxes(p_organisation bigint, p_after bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    WITH new AS (
        SELECT topic_of(type) AS topic, bool_or(is_urgent_mail(type)) AS is_urgent
        FROM change WHERE organisation_id = p_organisation AND position > p_after
        GROUP BY 1)
    UPDATE mailbox m SET
        -- Whatever came before was not for it.
        position = CASE WHEN m.waits_since IS NULL THEN p_after ELSE m.position END,
        waits_since = coalesce(m.waits_since, clock_timestamp()),
        is_urgent = m.is_urgent OR h.is_urgent
    FROM (SELECT w.person_id, bool_or(n.is_urgent) AS is_urgent
          FROM mailbox w JOIN new n ON n.topic = ANY (w.topics)
          WHERE w.organisation_id = p_organisation AND w.confirmed_at IS NOT NULL
          GROUP BY w.person_id) h
    WHERE m.person_id = h.person_id AND (m.waits_since IS NULL OR h.is_urgent AND NOT m.is_urgent)
$$;

-- It hears what comes from now on, of this organisation. A mail that is on its way does not count any more. The caller
-- has the mailbox.
CREATE FUNCTION begin_mailbox_anew(p_person bigint, p_organisation bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE mailbox SET organisation_id = p_organisation, position = last_change(p_organisation), upto = NULL,
        skipped = 0, waits_since = NULL, is_urgent = false, leased_until = NULL, attempts = attempts + 1
    WHERE person_id = p_person
$$;

-- Takes at most p_n mailboxes for which something waits, for p_lease. Each row is one mail: it asks whether the address
-- is right (r_confirm), or says what happened. A person gets one mail in p_every at most; changes are collected for a
-- tenth of that, urgent ones for a sixtieth.
CREATE FUNCTION take_mails(p_key uuid, p_n integer, p_lease interval, p_every interval)
RETURNS TABLE (r_person bigint, r_attempt integer, r_email text, r_organisation bigint, r_name text, r_zone text,
    r_topics mail_topic[], r_set_by text, r_confirm text, r_unsubscribe text, r_skipped bigint, r_more bigint,
    r_changes jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    c_said constant integer := 50;                         -- in a mail
    c_read constant integer := 10000;                      -- changes of the feed, for a mail
    v mailbox; v_person person; v_server mail_server; v_due bigint[]; v_heard bigint; v_forgotten bigint;
    v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM leased_worker(p_key);
    SELECT * INTO v_server FROM mail_server;
    IF v_server.rests_until > v_now AND v_server.rests_until <= v_now + interval '1 day' THEN RETURN; END IF;
    v_due := ARRAY(SELECT person_id FROM mailbox
        WHERE waits_since IS NOT NULL AND stopped_at IS NULL
            AND waits_since + p_every / CASE WHEN is_urgent THEN 60 ELSE 10 END <= v_now
            AND (leased_until IS NULL OR leased_until <= v_now)
            AND (rests_until IS NULL OR rests_until <= v_now)
            -- One from the future: the clock was wrong.
            AND (sent_at IS NULL OR sent_at + p_every <= v_now OR sent_at > v_now)
        -- One mail finds out whether the server is back.
        ORDER BY waits_since LIMIT CASE WHEN v_server.failing_since IS NULL THEN p_n ELSE 1 END);
    FOR v IN
        SELECT * FROM mailbox m
        WHERE m.person_id = ANY (v_due) AND m.waits_since IS NOT NULL AND m.stopped_at IS NULL
            AND (m.leased_until IS NULL OR m.leased_until <= v_now)
            AND (m.rests_until IS NULL OR m.rests_until <= v_now)
            AND (m.sent_at IS NULL OR m.sent_at + p_every <= v_now OR m.sent_at > v_now)
        ORDER BY m.waits_since FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        SELECT * INTO v_person FROM person p WHERE p.person_id = v.person_id;
        IF v_person.disabled_at IS NOT NULL OR v.topics = '{}'
            OR v.organisation_id <> coalesce(v_person.organisation_id, 0) THEN
            PERFORM begin_mailbox_anew(v.person_id, coalesce(v_person.organisation_id, 0));
            CONTINUE;
        END IF;
        IF v.confirmed_at IS NULL THEN
            -- The link is good for a week: not from when the server went away.
            IF v.confirm_asked_at < v_now - interval '1 day' THEN v.confirm_asked_at := v_now; END IF;
        ELSE
            v_forgotten := coalesce((
                SELECT e.forgotten FROM change_end e WHERE e.organisation_id = v.organisation_id), 0);
            v.skipped := v.skipped + greatest(0, v_forgotten - v.position);
            v.upto := greatest(v_forgotten, coalesce(v.upto, (SELECT max(s.position) FROM (
                SELECT c.position FROM change c WHERE c.organisation_id = v.organisation_id AND c.position > v.position
                ORDER BY c.organisation_id, c.position LIMIT c_read) s), v.position));
            SELECT count(*) INTO v_heard FROM change c
            WHERE c.organisation_id = v.organisation_id AND c.position > v.position AND c.position <= v.upto
                AND topic_of(c.type) = ANY (v.topics);
            IF v_heard = 0 THEN
                -- It was deleted, or the topics are others by now; or there is more behind it.
                UPDATE mailbox m SET position = v.upto, skipped = v.skipped, upto = NULL,
                    waits_since = CASE WHEN last_change(v.organisation_id) > v.upto THEN m.waits_since END
                WHERE m.person_id = v.person_id;
                CONTINUE;
            END IF;
        END IF;
        UPDATE mailbox m SET attempts = m.attempts + 1, leased_until = v_now + p_lease, upto = v.upto,
            confirm_asked_at = v.confirm_asked_at
        WHERE m.person_id = v.person_id;
        r_person := v.person_id;
        r_attempt := v.attempts + 1;
        r_email := v_person.email;
        r_organisation := v.organisation_id;
        SELECT o.name, o.time_zone INTO r_name, r_zone FROM organisation o WHERE o.organisation_id = v.organisation_id;
        r_topics := v.topics;
        r_set_by := v.set_by;
        r_confirm := CASE WHEN v.confirmed_at IS NULL THEN mail_token(v, 'confirm') END;
        r_unsubscribe := mail_token(v, 'unsubscribe');
        r_skipped := CASE WHEN v.confirmed_at IS NULL THEN 0 ELSE v.skipped END;
        r_more := CASE WHEN v.confirmed_at IS NULL THEN 0 ELSE greatest(0, v_heard - c_said) END;
        r_changes := CASE WHEN v.confirmed_at IS NULL THEN '[]' ELSE mail_changes(v, c_said) END;
        RETURN NEXT;
        -- Nobody else tries meanwhile.
        IF v_server.failing_since IS NOT NULL THEN UPDATE mail_server SET rests_until = v_now + p_lease; END IF;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION take_mails TO photogate_worker;

-- What a mail says: the urgent changes first if there are too many, in their order, with the names of their events; to
-- the staff, of their organisations.
CREATE FUNCTION mail_changes(p_mailbox mailbox, p_most integer) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    SELECT jsonb_agg(jsonb_build_object('position', s.position, 'type', s.type, 'subject', s.subject, 'at', s.at,
        'data', s.data, 'name', CASE
            WHEN s.organisation_id = 0 THEN (
                SELECT o.name FROM organisation o WHERE o.organisation_id = (s.data ->> 'organisation')::bigint)
            ELSE (
                SELECT e.name FROM event e
                WHERE e.event_id = (s.data ->> 'event')::bigint AND e.organisation_id = s.organisation_id)
            END) ORDER BY s.position)
    FROM (SELECT * FROM change c
          WHERE c.organisation_id = p_mailbox.organisation_id AND c.position > p_mailbox.position
              AND c.position <= p_mailbox.upto AND topic_of(c.type) = ANY (p_mailbox.topics)
          ORDER BY is_urgent_mail(c.type) DESC, c.position LIMIT p_most) s
$$;

-- What came of a mail. p_end is 'sent'; or 'server': the server is not well, and rests; 'later': it does not take this
-- mail now; 'refused': it says that there is no such address. The pauses begin with p_pause and become longer, up to an
-- hour, those of the server up to five minutes. What is late counts, as long as nobody else has tried since.
-- r_stopped: nothing is sent there any more.
CREATE FUNCTION end_mail(p_person bigint, p_attempt integer, p_end text, p_trouble text, p_pause interval,
    OUT r_stopped boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v mailbox; v_now timestamptz := clock_timestamp(); v_whose bigint;
BEGIN
    r_stopped := false;
    SELECT * INTO v FROM mailbox
    WHERE person_id = p_person AND attempts = p_attempt AND leased_until IS NOT NULL FOR NO KEY UPDATE;
    IF NOT FOUND THEN RETURN; END IF;
    IF p_end = 'sent' THEN
        UPDATE mailbox SET leased_until = NULL, failures = 0, rests_until = NULL, trouble = NULL
        WHERE person_id = p_person;
        IF v.confirmed_at IS NULL THEN
            UPDATE mailbox SET confirm_sent_at = v_now, confirm_mails = confirm_mails + 1, waits_since = NULL,
                is_urgent = false
            WHERE person_id = p_person;
        ELSE
            UPDATE mailbox SET position = coalesce(v.upto, position), upto = NULL, skipped = 0, sent_at = v_now,
                waits_since = CASE WHEN last_change(v.organisation_id) > v.upto THEN v_now END,
                is_urgent = EXISTS (
                    SELECT FROM (SELECT type FROM change c
                                 WHERE c.organisation_id = v.organisation_id AND c.position > v.upto
                                 ORDER BY c.organisation_id, c.position LIMIT 10000) s
                    WHERE is_urgent_mail(s.type) AND topic_of(s.type) = ANY (v.topics))
            WHERE person_id = p_person;
        END IF;
    ELSIF p_end = 'server' THEN
        UPDATE mailbox SET leased_until = NULL WHERE person_id = p_person;
    ELSIF p_end = 'later' THEN
        UPDATE mailbox SET leased_until = NULL, failures = failures + 1, trouble = left(p_trouble, 300),
            rests_until = v_now + pause_after(failures + 1, p_pause)
        WHERE person_id = p_person;
    ELSE
        UPDATE mailbox SET leased_until = NULL, failures = failures + 1, trouble = left(p_trouble, 300),
            stopped_at = v_now
        WHERE person_id = p_person;
        r_stopped := true;
    END IF;
    IF p_end = 'server' THEN
        -- Mails that fail together count once.
        UPDATE mail_server SET failing_since = coalesce(failing_since, v_now), failures = failures + 1,
            rests_until = v_now + least(pause_after(failures + 1, p_pause), interval '5 minutes'),
            trouble = left(p_trouble, 300)
        WHERE rests_until IS NULL OR rests_until <= v_now OR rests_until = v.leased_until;
    ELSE
        UPDATE mail_server SET failing_since = NULL, failures = 0, rests_until = NULL, trouble = NULL
        WHERE failing_since IS NOT NULL;
    END IF;
    IF r_stopped THEN
        SELECT organisation_id INTO v_whose FROM person WHERE person_id = p_person;
        INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
        SELECT 'System', v_whose, 'mailbox.stop', email, jsonb_build_object('reason', left(p_trouble, 300))
        FROM person WHERE person_id = p_person;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION end_mail TO photogate_worker;

-- For how many seconds the mail that waits longest has waited, of addresses that are well; 0: none waits.
CREATE FUNCTION mail_waits_seconds() RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    SELECT coalesce(greatest(0, extract(epoch FROM clock_timestamp() - (
        SELECT min(m.waits_since) FROM mailbox m JOIN person p USING (person_id)
        WHERE m.waits_since IS NOT NULL AND m.stopped_at IS NULL AND m.failures = 0 AND p.disabled_at IS NULL
    ))), 0)::double precision
$$;
GRANT EXECUTE ON FUNCTION mail_waits_seconds TO photogate_worker;

-- Sets what a person hears by e-mail; nothing: an empty list. Also sends again to an address that was refused. r_asks:
-- a mail asks the person first. An address is asked once a day at most, and three times at most (PG009). What a person
-- has chosen themselves, also by unsubscribing, others can only make less (PG006).
CREATE FUNCTION set_mailbox(p_person bigint, p_topics mail_topic[], p_actor text, OUT r_asks boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_asks constant integer := 3;
    v_organisation bigint; v_email text; v mailbox;
BEGIN
    SELECT coalesce(organisation_id, 0), email INTO v_organisation, v_email FROM person
    WHERE person_id = p_person AND disabled_at IS NULL;
    IF NOT FOUND THEN RAISE EXCEPTION 'no person % who can log in', p_person USING ERRCODE = 'PG002'; END IF;
    INSERT INTO mailbox (person_id, organisation_id, key, set_by)
    VALUES (p_person, v_organisation, uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()), p_actor)
    ON CONFLICT (person_id) DO NOTHING;
    SELECT * INTO v FROM mailbox WHERE person_id = p_person FOR NO KEY UPDATE;
    IF v.set_by = v_email AND p_actor <> v_email AND NOT p_topics <@ v.topics THEN
        RAISE EXCEPTION '% has chosen what they hear: only they can add to it, on the page of their account', v_email
        USING ERRCODE = 'PG006';
    END IF;
    IF v.topics = '{}' OR v.organisation_id <> v_organisation THEN
        PERFORM begin_mailbox_anew(p_person, v_organisation);
    END IF;
    UPDATE mailbox SET topics = p_topics, set_by = p_actor, set_at = clock_timestamp(), failures = 0,
        rests_until = NULL, trouble = NULL, stopped_at = NULL,
        waits_since = CASE WHEN p_topics <> '{}' THEN waits_since END
    WHERE person_id = p_person;
    r_asks := v.confirmed_at IS NULL AND p_topics <> '{}';
    -- One is on its way, or came today.
    IF NOT r_asks OR v.confirm_sent_at > clock_timestamp() - interval '1 day'
        OR v.waits_since IS NOT NULL AND v.topics <> '{}'
    THEN
        RETURN;
    END IF;
    IF v.confirm_mails >= c_asks THEN
        RAISE EXCEPTION 'the address was asked % times and its owner has not said yes: ask them another way', c_asks
        USING ERRCODE = 'PG009';
    END IF;
    UPDATE mailbox SET confirm_asked_at = clock_timestamp(), waits_since = clock_timestamp(), is_urgent = true
    WHERE person_id = p_person;
END $$;
GRANT EXECUTE ON FUNCTION set_mailbox TO photogate_app;

-- Whether a link in a mail is good. p_what: confirm (for 7 days) or unsubscribe.
CREATE FUNCTION is_mail_link(p_person bigint, p_what text, p_token text) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    -- The hashes are compared: how long that takes tells nothing.
    SELECT EXISTS (
        SELECT FROM mailbox m JOIN person p USING (person_id)
        WHERE person_id = p_person AND p.disabled_at IS NULL
            AND sha256(convert_to(mail_token(m, p_what), 'UTF8')) = sha256(convert_to(p_token, 'UTF8'))
            AND (p_what = 'unsubscribe' OR m.confirmed_at IS NOT NULL
                 OR m.confirm_asked_at > clock_timestamp() - interval '7 days'))
$$;
GRANT EXECUTE ON FUNCTION is_mail_link TO photogate_app;

-- The owner of an address says yes. It hears what comes from now on. False: that was so already.
CREATE FUNCTION confirm_mailbox(p_person bigint, p_token text) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v mailbox;
BEGIN
    SELECT * INTO v FROM mailbox WHERE person_id = p_person FOR NO KEY UPDATE;
    IF NOT is_mail_link(p_person, 'confirm', p_token) THEN
        RAISE EXCEPTION 'no such link, or it is older than 7 days' USING ERRCODE = 'PG002';
    END IF;
    IF v.confirmed_at IS NOT NULL THEN RETURN false; END IF;
    PERFORM begin_mailbox_anew(p_person, v.organisation_id);
    UPDATE mailbox SET confirmed_at = clock_timestamp(), confirm_mails = 0 WHERE person_id = p_person;
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION confirm_mailbox TO photogate_app;

-- Ends all topics but p_essential: those come although a person unsubscribed, and end when somebody sets the topics.
-- r_changed: there was something to end.
CREATE FUNCTION unsubscribe_mailbox(p_person bigint, p_token text, p_essential mail_topic[], OUT r_changed boolean,
    OUT r_topics mail_topic[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v mailbox;
BEGIN
    SELECT * INTO v FROM mailbox WHERE person_id = p_person FOR NO KEY UPDATE;
    IF NOT is_mail_link(p_person, 'unsubscribe', p_token) THEN
        RAISE EXCEPTION 'no such link' USING ERRCODE = 'PG002';
    END IF;
    r_topics := ARRAY(SELECT t FROM unnest(v.topics) t WHERE t = ANY (p_essential) ORDER BY t);
    r_changed := cardinality(r_topics) < cardinality(v.topics);
    IF r_changed THEN
        UPDATE mailbox SET topics = r_topics, set_at = clock_timestamp(),
            set_by = (SELECT email FROM person WHERE person_id = p_person),
            waits_since = CASE WHEN r_topics <> '{}' THEN waits_since END
        WHERE person_id = p_person;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION unsubscribe_mailbox TO photogate_app;

-- Who comes to another organisation hears nothing of the one before.
CREATE OR REPLACE FUNCTION move_mailbox() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    PERFORM begin_mailbox_anew(NEW.person_id, coalesce(NEW.organisation_id, 0));
    RETURN NULL;
END $$;

DO $$
BEGIN
    IF EXISTS (SELECT FROM pg_trigger WHERE tgrelid = 'person'::regclass AND tgname = 'mailbox_moves') THEN
        RETURN;
    END IF;
    CREATE TRIGGER mailbox_moves AFTER UPDATE OF organisation_id ON person
        FOR EACH ROW WHEN (NEW.organisation_id IS DISTINCT FROM OLD.organisation_id) EXECUTE FUNCTION move_mailbox();
END $$;
