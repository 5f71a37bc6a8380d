-- E-mail: people are told of changes, each by a mail that says all that waits for them, at least once.
--
-- A mailbox reads the feed of its organisation by a cursor. Whoever numbers a change notes which mailboxes hear it. A
-- worker takes a mailbox under a lease, sends one mail outside of any transaction, and says what came of it: then the
-- cursor moves. A worker that dies leaves a lease that runs out, and the same mail is sent again: what it says is fixed
-- when it is taken first (upto).
-- A server that cannot be reached, or that refuses everybody, rests as a whole. What concerns one address is noted with
-- that address, and such addresses have places of their own: they keep nobody else waiting.
-- Lock order: change_end, webhooks, mailboxes; mail_server after a mailbox; the audit log comes last. Whoever numbers
-- changes may wait for a mailbox, so nobody who has one waits for change_end: it is only read.

-- What a type belongs to.
CREATE FUNCTION topic_of(p_type change_type) RETURNS mail_topic
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE
        WHEN p_type IN ('event.paused', 'event.resumed', 'event.finished') THEN 'events'::mail_topic
        WHEN p_type IN ('event.held', 'event.lifted', 'event.deleted') THEN 'holds'::mail_topic
        WHEN p_type IN ('run.finished', 'run.cancelled', 'run.undone') THEN 'runs'::mail_topic
        WHEN p_type IN ('alert.raised', 'alert.cleared') THEN 'alerts'::mail_topic
        WHEN p_type IN ('credits.added', 'auto_top_up.stopped') THEN 'credits'::mail_topic
        WHEN p_type IN ('purchase.asked', 'purchase.decided', 'payment.kept') THEN 'purchases'::mail_topic
        WHEN p_type = 'webhook.disabled' THEN 'technical'::mail_topic
        -- Too many, or nobody's news: no mail says that photos were queued, claimed or settled, or that somebody tries.
        END
$$;

-- What should be known within seconds.
CREATE FUNCTION is_urgent_mail(p_type change_type) RETURNS boolean
LANGUAGE sql IMMUTABLE AS $$
    SELECT p_type IN ('event.paused', 'alert.raised', 'payment.kept')
$$;

-- Whether a lease or a pause is over. None is longer than a day: then the clock was wrong when it began.
CREATE FUNCTION has_passed(p_until timestamptz, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT p_until IS NULL OR p_until <= p_now OR p_until > p_now + interval '1 day'
$$;

-- Whether that was within a day.
CREATE FUNCTION was_today(p_at timestamptz, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT coalesce(p_at > p_now - interval '1 day' AND p_at <= p_now + interval '1 day', false)
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

-- Locks the mailboxes of an organisation if its new changes may be for them, and waits for none. False: somebody has
-- one. Most changes are of photos and runs, and no mail says those. Nobody may call it but number_changes.
CREATE FUNCTION have_mailboxes(p_organisation bigint) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    -- So many are numbered together.
    IF NOT EXISTS (SELECT FROM mailbox WHERE organisation_id = p_organisation) OR NOT EXISTS (
        SELECT FROM (SELECT type FROM new_change WHERE organisation_id = p_organisation
                     ORDER BY organisation_id, change_id LIMIT 5000) s
        WHERE topic_of(s.type) IS NOT NULL)
    THEN
        RETURN true;
    END IF;
    RETURN (SELECT count(*) FROM mailbox WHERE organisation_id = p_organisation) = (
        SELECT count(*) FROM (SELECT FROM mailbox WHERE organisation_id = p_organisation
                              ORDER BY person_id FOR NO KEY UPDATE SKIP LOCKED) m);
END $$;

-- Notes which mailboxes hear an organisation's changes after p_after. The caller has the organisation's change_end.
-- Nobody may call it but number_changes.
CREATE FUNCTION tell_mailboxes(p_organisation bigint, p_after bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_topics mail_topic[]; v_urgent mail_topic[];
BEGIN
    SELECT coalesce(array_agg(DISTINCT topic) FILTER (WHERE topic IS NOT NULL), '{}'),
        coalesce(array_agg(DISTINCT topic) FILTER (WHERE is_urgent), '{}')
    INTO v_topics, v_urgent
    FROM (SELECT topic_of(type) AS topic, is_urgent_mail(type) AS is_urgent
          FROM change WHERE organisation_id = p_organisation AND position > p_after) c;
    IF v_topics = '{}' THEN RETURN; END IF;
    -- Changes that were committed after have_mailboxes has looked are among them, so it may not have these locks yet.
    PERFORM 1 FROM mailbox WHERE organisation_id = p_organisation ORDER BY person_id FOR NO KEY UPDATE;
    -- A later statement than the locks: it sees what a mail that has just ended has left.
    UPDATE mailbox m SET
        -- Whatever came before was not for it.
        position = CASE WHEN m.waits_since IS NULL THEN p_after ELSE m.position END,
        waits_since = coalesce(m.waits_since, clock_timestamp()),
        is_urgent = m.is_urgent OR m.topics && v_urgent
    WHERE m.organisation_id = p_organisation AND m.confirmed_at IS NOT NULL AND m.topics && v_topics
        AND (m.waits_since IS NULL OR NOT m.is_urgent AND m.topics && v_urgent);
END $$;

-- It hears what comes from now on, of this organisation. A mail that is on its way does not count any more; but a
-- question does, and one that waits goes on waiting. The caller has the mailbox.
CREATE FUNCTION begin_mailbox_anew(p_person bigint, p_organisation bigint) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    UPDATE mailbox SET organisation_id = p_organisation, position = last_change(p_organisation), upto = NULL,
        skipped = 0,
        waits_since = CASE WHEN confirmed_at IS NULL THEN waits_since END,
        is_urgent = is_urgent AND confirmed_at IS NULL,
        leased_until = CASE WHEN confirmed_at IS NULL THEN leased_until END,
        attempts = attempts + CASE WHEN confirmed_at IS NULL THEN 0 ELSE 1 END
    WHERE person_id = p_person
$$;

-- Which mailboxes have a mail that is due, in the order in which they are served: p_failing, those whose last mail has
-- failed, or the others. Only the first of each organisation are among them, and none if it has p_at_once already.
CREATE FUNCTION due_mailboxes(p_failing boolean, p_at_once integer, p_every interval, p_now timestamptz)
RETURNS bigint[]
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    WITH busy AS (
        SELECT organisation_id, count(*) AS n FROM mailbox
        WHERE leased_until IS NOT NULL AND NOT has_passed(leased_until, p_now) GROUP BY organisation_id)
    SELECT ARRAY(
        SELECT person_id FROM (
            SELECT m.person_id, m.waits_since,
                row_number() OVER (PARTITION BY m.organisation_id ORDER BY m.waits_since) AS n
            FROM mailbox m JOIN person p USING (person_id) LEFT JOIN busy b ON b.organisation_id = m.organisation_id
            WHERE m.waits_since IS NOT NULL AND m.stopped_at IS NULL AND (m.failures > 0) = p_failing
                AND is_mail_due(m, p_every, p_now)
                AND coalesce(b.n, 0) < p_at_once
                -- Who cannot log in is asked when they can again.
                AND (m.confirmed_at IS NOT NULL OR p.disabled_at IS NULL)) s
        WHERE n <= 20 ORDER BY waits_since LIMIT 100)
$$;

-- Whether it may be sent now what waits for a mailbox. What is from the future was written when the clock was wrong.
CREATE FUNCTION is_mail_due(p_mailbox mailbox, p_every interval, p_now timestamptz) RETURNS boolean
LANGUAGE sql STABLE AS $$
    SELECT has_passed(p_mailbox.leased_until, p_now) AND has_passed(p_mailbox.rests_until, p_now)
        AND (p_mailbox.waits_since + p_every / CASE WHEN p_mailbox.is_urgent THEN 60 ELSE 10 END <= p_now
             OR p_mailbox.waits_since > p_now)
        AND (p_mailbox.sent_at IS NULL OR p_mailbox.sent_at + p_every <= p_now OR p_mailbox.sent_at > p_now)
$$;

-- Notes that a mailbox's question is asked now: also one that does not arrive, so that whoever sets topics again and
-- again asks no more often. False: its organisation has asked so many strangers today that it must wait.
CREATE FUNCTION count_question(p_mailbox mailbox, p_now timestamptz) RETURNS boolean
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    c_questions constant integer := 50;
    -- It was counted when it was tried before.
    v_counted boolean := coalesce(p_mailbox.confirm_sent_at >= p_mailbox.confirm_asked_at, false);
BEGIN
    IF NOT v_counted AND c_questions <= (
        SELECT count(*) FROM mailbox
        WHERE organisation_id = p_mailbox.organisation_id AND confirm_sent_at IS NOT NULL
            AND was_today(confirm_sent_at, p_now))
    THEN
        UPDATE mailbox SET rests_until = p_now + interval '1 hour' WHERE person_id = p_mailbox.person_id;
        RETURN false;
    END IF;
    UPDATE mailbox SET confirm_sent_at = p_now, confirm_mails = confirm_mails + CASE WHEN v_counted THEN 0 ELSE 1 END,
        -- The link is good for a week: not from when the server went away.
        confirm_asked_at = CASE WHEN was_today(confirm_asked_at, p_now) THEN least(confirm_asked_at, p_now)
                                ELSE p_now END
    WHERE person_id = p_mailbox.person_id;
    RETURN true;
END $$;

-- Takes at most p_n mailboxes for which something waits, for p_lease: p_failing, those whose last mail has failed, or
-- the others; of an organisation only a few at the same time. Each row is one mail: it asks whether the address is
-- right (r_confirm), or says what happened. A person gets one mail in p_every at most; changes are collected for a
-- tenth of that, urgent ones for a sixtieth. r_set_by: a person's address; of programs, which have any name, NULL.
CREATE FUNCTION take_mails(p_key uuid, p_failing boolean, p_n integer, p_lease interval, p_every interval)
RETURNS TABLE (r_person bigint, r_attempt integer, r_email text, r_organisation bigint, r_name text, r_zone text,
    r_topics mail_topic[], r_set_by text, r_confirm text, r_unsubscribe text, r_is_bare boolean, r_skipped bigint,
    r_more bigint, r_changes jsonb)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    c_said constant integer := 50;                         -- in a mail
    c_read constant integer := 10000;                      -- changes of the feed, for a mail
    c_at_once constant integer := 2;                       -- mails of an organisation
    v mailbox; v_person person; v_server mail_server; v_due bigint[]; v_heard bigint; v_forgotten bigint;
    v_left integer; v_now timestamptz := clock_timestamp();
BEGIN
    PERFORM leased_worker(p_key);
    SELECT * INTO v_server FROM mail_server;
    IF NOT has_passed(v_server.rests_until, v_now) THEN RETURN; END IF;
    -- One mail finds out whether the server is back.
    v_left := CASE WHEN v_server.failing_since IS NULL THEN p_n ELSE least(p_n, 1) END;
    v_due := due_mailboxes(p_failing, c_at_once, p_every, v_now);
    FOR v IN
        SELECT * FROM mailbox m
        WHERE m.person_id = ANY (v_due) AND m.waits_since IS NOT NULL AND m.stopped_at IS NULL
            AND is_mail_due(m, p_every, v_now)
        ORDER BY m.waits_since FOR NO KEY UPDATE SKIP LOCKED
    LOOP
        EXIT WHEN v_left = 0;
        CONTINUE WHEN c_at_once <= (
            SELECT count(*) FROM mailbox o
            WHERE o.organisation_id = v.organisation_id AND o.leased_until IS NOT NULL
                AND NOT has_passed(o.leased_until, v_now));
        SELECT * INTO v_person FROM person p WHERE p.person_id = v.person_id;
        IF v_person.disabled_at IS NOT NULL OR v.topics = '{}'
            OR v.organisation_id <> coalesce(v_person.organisation_id, 0) THEN
            PERFORM begin_mailbox_anew(v.person_id, coalesce(v_person.organisation_id, 0));
            CONTINUE;
        END IF;
        IF v.confirmed_at IS NULL THEN
            CONTINUE WHEN NOT count_question(v, v_now);
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
        UPDATE mailbox m SET attempts = m.attempts + 1, leased_until = v_now + p_lease, upto = v.upto
        WHERE m.person_id = v.person_id RETURNING * INTO v;
        v_left := v_left - 1;
        r_person := v.person_id;
        r_attempt := v.attempts;
        r_email := v_person.email;
        r_organisation := v.organisation_id;
        SELECT o.name, o.time_zone INTO r_name, r_zone FROM organisation o WHERE o.organisation_id = v.organisation_id;
        r_topics := v.topics;
        r_set_by := CASE WHEN EXISTS (SELECT FROM person p WHERE p.email = v.set_by) THEN v.set_by END;
        r_confirm := CASE WHEN v.confirmed_at IS NULL THEN mail_token(v, 'confirm') END;
        r_unsubscribe := mail_token(v, 'unsubscribe');
        r_is_bare := v.is_bare;
        r_skipped := CASE WHEN v.confirmed_at IS NULL THEN 0 ELSE v.skipped END;
        r_changes := CASE WHEN v.confirmed_at IS NULL THEN '[]' ELSE mail_changes(v, c_said) END;
        r_more := CASE WHEN v.confirmed_at IS NULL THEN 0 ELSE v_heard - jsonb_array_length(r_changes) END;
        RETURN NEXT;
        -- Nobody else tries meanwhile.
        IF v_server.failing_since IS NOT NULL THEN UPDATE mail_server SET rests_until = v.leased_until; END IF;
    END LOOP;
END $$;
GRANT EXECUTE ON FUNCTION take_mails TO photogate_worker;

-- What a mail says: the urgent changes first if there are too many, in their order, with the names of their events; to
-- the staff, of their organisations. If there are too many, pauses, alerts and holds that are over by the end of the
-- mail are left out: or it would say that an event is paused, and have no place for what ended that.
CREATE FUNCTION mail_changes(p_mailbox mailbox, p_most integer) RETURNS jsonb
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    WITH heard AS (
        SELECT c.*, c.data ->> 'operation' AS operation,
            CASE WHEN c.type IN ('event.held', 'event.lifted') THEN c.data ->> 'hold' END AS hold
        FROM change c
        WHERE c.organisation_id = p_mailbox.organisation_id AND c.position > p_mailbox.position
            AND c.position <= p_mailbox.upto AND topic_of(c.type) = ANY (p_mailbox.topics)),
    judged AS (
        SELECT *, count(*) OVER () AS n, position < CASE type
            WHEN 'event.paused' THEN greatest(max(position) FILTER (WHERE type = 'event.resumed') OVER same,
                                              max(position) FILTER (WHERE type = 'event.deleted') OVER event)
            WHEN 'event.held' THEN greatest(max(position) FILTER (WHERE type = 'event.lifted') OVER same,
                                            max(position) FILTER (WHERE type = 'event.deleted') OVER event)
            WHEN 'alert.raised' THEN max(position) FILTER (WHERE type = 'alert.cleared') OVER same
            END AS is_over
        FROM heard
        WINDOW same AS (PARTITION BY subject, operation, hold), event AS (PARTITION BY subject)),
    chosen AS (
        SELECT * FROM judged WHERE n <= p_most OR is_over IS NOT TRUE
        ORDER BY is_urgent_mail(type) DESC, position LIMIT p_most)
    SELECT jsonb_agg(jsonb_build_object('position', s.position, 'type', s.type, 'subject', s.subject, 'at', s.at,
        'data', CASE WHEN s.organisation_id = 0 THEN s.data || jsonb_strip_nulls(jsonb_build_object(
            'actor', known_actor(s.data ->> 'actor'), 'decided_by', known_actor(s.data ->> 'decided_by')))
            ELSE s.data END,
        'name', CASE
            WHEN s.organisation_id = 0 THEN (
                SELECT o.name FROM organisation o WHERE o.organisation_id = (s.data ->> 'organisation')::bigint)
            ELSE (
                SELECT e.name FROM event e
                WHERE e.event_id = (s.data ->> 'event')::bigint AND e.organisation_id = s.organisation_id)
            END) ORDER BY s.position)
    FROM chosen s
$$;

-- Who did something, as it is told to the staff: an organisation names its programs as it likes, also so that a filter
-- of mail refuses what says the name.
CREATE FUNCTION known_actor(p_actor text) RETURNS text
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT CASE WHEN p_actor IN ('System', 'cli') OR EXISTS (SELECT FROM person WHERE email = p_actor) THEN p_actor
                WHEN p_actor IS NOT NULL THEN 'a program' END
$$;

-- What came of a mail. The pauses begin with p_pause and become longer, up to an hour, those of the server up to five
-- minutes. What is late counts, as long as nobody else has tried since. p_end is
--   sent:       the server took it.
--   unanswered: it has the whole mail, and did not say so: it may be delivered. A question is not asked again, and
--               other mail comes an hour later with the same Message-ID.
--   server:     it is not well, or takes nothing from us: it rests, and no address counts that.
--   busy:       the same, said of this mail: this address rests, too, so that another one finds out.
--   later:      it does not take this mail now.
--   letter:     it does not want these words: the next mail has no words of others.
--   doubtful:   it says no, and not whether that is about the address. Enough if it says so for a day, and takes
--               others.
--   refused:    it says that there is no such address.
--   unfit:      nobody can send there, and the server was not asked.
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
    IF p_end = 'sent' OR p_end = 'unanswered' AND v.confirmed_at IS NULL THEN
        PERFORM note_mail_sent(v, v_now);
    ELSIF p_end = 'server' THEN
        UPDATE mailbox SET leased_until = NULL WHERE person_id = p_person;
    ELSE
        r_stopped := p_end IN ('refused', 'unfit') OR p_end = 'doubtful' AND v.failures >= 3 AND coalesce(
            v.failing_since < v_now - interval '1 day' AND (SELECT sent_at > v.failing_since FROM mail_server), false);
        UPDATE mailbox SET leased_until = NULL, failures = failures + 1,
            failing_since = coalesce(failing_since, v_now), trouble = left(p_trouble, 300),
            is_bare = is_bare OR p_end = 'letter',
            rests_until = v_now + CASE WHEN p_end = 'unanswered' THEN interval '1 hour'
                                       ELSE pause_after(failures + 1, p_pause) END,
            stopped_at = CASE WHEN r_stopped THEN v_now END
        WHERE person_id = p_person;
    END IF;
    PERFORM note_mail_server(v.leased_until, p_end, p_trouble, p_pause, v_now);
    IF r_stopped THEN
        SELECT organisation_id INTO v_whose FROM person WHERE person_id = p_person;
        INSERT INTO audit_log (actor, organisation_id, action, subject, detail)
        SELECT 'System', v_whose, 'mailbox.stop', email, jsonb_build_object('reason', left(p_trouble, 300))
        FROM person WHERE person_id = p_person;
    END IF;
END $$;
GRANT EXECUTE ON FUNCTION end_mail TO photogate_worker;

-- A mail was sent: the cursor moves. The caller has the mailbox.
CREATE FUNCTION note_mail_sent(p_mailbox mailbox, p_now timestamptz) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
BEGIN
    UPDATE mailbox SET leased_until = NULL, failures = 0, failing_since = NULL, rests_until = NULL, trouble = NULL,
        is_bare = false
    WHERE person_id = p_mailbox.person_id;
    IF p_mailbox.confirmed_at IS NULL THEN
        UPDATE mailbox SET waits_since = NULL, is_urgent = false WHERE person_id = p_mailbox.person_id;
        RETURN;
    END IF;
    UPDATE mailbox SET position = coalesce(p_mailbox.upto, position), upto = NULL, skipped = 0, sent_at = p_now,
        waits_since = CASE WHEN last_change(p_mailbox.organisation_id) > p_mailbox.upto THEN p_now END,
        is_urgent = EXISTS (
            SELECT FROM (SELECT type FROM change c
                         WHERE c.organisation_id = p_mailbox.organisation_id AND c.position > p_mailbox.upto
                         ORDER BY c.organisation_id, c.position LIMIT 10000) s
            WHERE is_urgent_mail(s.type) AND topic_of(s.type) = ANY (p_mailbox.topics))
    WHERE person_id = p_mailbox.person_id;
END $$;

-- What came of a mail, for the server. p_leased_until: of the mail; a server that is not well rests as long.
CREATE FUNCTION note_mail_server(p_leased_until timestamptz, p_end text, p_trouble text, p_pause interval,
    p_now timestamptz)
RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    -- Mails that fail together count once.
    UPDATE mail_server SET failing_since = coalesce(failing_since, p_now), failures = failures + 1,
        rests_until = p_now + least(pause_after(failures + 1, p_pause), interval '5 minutes'),
        trouble = left(p_trouble, 300)
    WHERE p_end IN ('server', 'busy') AND (has_passed(rests_until, p_now) OR rests_until = p_leased_until);
    -- It was not asked: somebody else finds out.
    UPDATE mail_server SET rests_until = p_now WHERE p_end = 'unfit' AND rests_until = p_leased_until;
    UPDATE mail_server SET failing_since = NULL, failures = 0, rests_until = NULL, trouble = NULL,
        sent_at = CASE WHEN p_end = 'sent' THEN p_now ELSE sent_at END
    WHERE p_end NOT IN ('server', 'busy', 'unfit') AND (failing_since IS NOT NULL
        -- It is one row for all: not each mail writes it.
        OR p_end = 'sent' AND (sent_at BETWEEN p_now - interval '10 seconds' AND p_now) IS NOT TRUE);
$$;

-- For how many seconds the mail that waits longest has waited; 0: none waits. An address that fails counts as long as
-- the server takes nothing for others either: then it may be no fault of the address.
CREATE FUNCTION mail_waits_seconds() RETURNS double precision
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
    SELECT coalesce(greatest(0, max(extract(epoch FROM clock_timestamp() - CASE
        WHEN m.failures = 0 THEN m.waits_since
        ELSE greatest(m.failing_since, s.sent_at) END))), 0)::double precision
    FROM mailbox m JOIN person p USING (person_id) CROSS JOIN mail_server s
    WHERE m.waits_since IS NOT NULL AND m.stopped_at IS NULL AND p.disabled_at IS NULL
        -- Its organisation has asked too many strangers today.
        AND (m.confirmed_at IS NOT NULL OR m.failures > 0 OR has_passed(m.rests_until, clock_timestamp()))
$$;
GRANT EXECUTE ON FUNCTION mail_waits_seconds TO photogate_worker;

-- Sets what a person hears by e-mail; nothing: an empty list. Also sends again to an address that was refused. r_asks:
-- a mail asks the person first. An address is asked once a day at most, and three times at most (PG009). To what a
-- person has chosen themselves, also by unsubscribing, others can never add (PG006).
CREATE FUNCTION set_mailbox(p_person bigint, p_topics mail_topic[], p_actor text, OUT r_asks boolean)
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE
    c_asks constant integer := 3;
    v_organisation bigint; v_email text; v mailbox; v_now timestamptz := clock_timestamp();
BEGIN
    SELECT coalesce(organisation_id, 0), email INTO v_organisation, v_email FROM person
    WHERE person_id = p_person AND disabled_at IS NULL;
    IF NOT FOUND THEN RAISE EXCEPTION 'no person % who can log in', p_person USING ERRCODE = 'PG002'; END IF;
    INSERT INTO mailbox (person_id, organisation_id, key, set_by)
    VALUES (p_person, v_organisation, new_mail_key(), p_actor)
    ON CONFLICT (person_id) DO NOTHING;
    SELECT * INTO v FROM mailbox WHERE person_id = p_person FOR NO KEY UPDATE;
    IF p_actor <> v_email AND NOT p_topics <@ coalesce(v.own_topics, p_topics) THEN
        RAISE EXCEPTION '% has chosen what they hear: only they can add to it, on the page of their account', v_email
        USING ERRCODE = 'PG006';
    END IF;
    IF v.topics = '{}' OR v.organisation_id <> v_organisation THEN
        PERFORM begin_mailbox_anew(p_person, v_organisation);
    END IF;
    UPDATE mailbox SET topics = p_topics, set_by = p_actor, set_at = v_now, stopped_at = NULL,
        own_topics = CASE WHEN p_actor = v_email THEN p_topics ELSE own_topics END,
        waits_since = CASE WHEN p_topics <> '{}' THEN waits_since END
    WHERE person_id = p_person;
    IF v.stopped_at IS NOT NULL THEN
        UPDATE mailbox SET failures = 0, failing_since = NULL, rests_until = NULL, trouble = NULL
        WHERE person_id = p_person;
    END IF;
    r_asks := v.confirmed_at IS NULL AND p_topics <> '{}';
    -- Or one waits, or is on its way.
    IF NOT r_asks OR v.stopped_at IS NULL AND v.waits_since IS NOT NULL AND v.topics <> '{}' THEN RETURN; END IF;
    IF was_today(v.confirm_sent_at, v_now) THEN
        IF v.stopped_at IS NULL THEN RETURN; END IF;
        RAISE EXCEPTION 'the mail server has refused the address today: try it again tomorrow'
        USING ERRCODE = 'PG009';
    END IF;
    IF v.confirm_mails >= c_asks THEN
        RAISE EXCEPTION 'the address was asked % times and its owner has not said yes: ask them another way', c_asks
        USING ERRCODE = 'PG009';
    END IF;
    UPDATE mailbox SET confirm_asked_at = v_now, waits_since = v_now, is_urgent = true WHERE person_id = p_person;
END $$;
GRANT EXECUTE ON FUNCTION set_mailbox TO photogate_app;

-- 256 random bits. Each UUID has 122.
CREATE FUNCTION new_mail_key() RETURNS bytea
LANGUAGE sql VOLATILE AS $$
    SELECT sha256(uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()) || uuid_send(gen_random_uuid()))
$$;

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
    UPDATE mailbox SET confirmed_at = clock_timestamp(), confirm_mails = 0 WHERE person_id = p_person;
    PERFORM begin_mailbox_anew(p_person, v.organisation_id);
    RETURN true;
END $$;
GRANT EXECUTE ON FUNCTION confirm_mailbox TO photogate_app;

-- Ends all topics but p_essential: those come although a person unsubscribed, and end when somebody sets the topics.
-- r_changed: there was something to end.
CREATE FUNCTION unsubscribe_mailbox(p_person bigint, p_token text, p_essential mail_topic[], OUT r_changed boolean,
    OUT r_topics mail_topic[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v mailbox; v_own mail_topic[];
BEGIN
    SELECT * INTO v FROM mailbox WHERE person_id = p_person FOR NO KEY UPDATE;
    IF NOT is_mail_link(p_person, 'unsubscribe', p_token) THEN
        RAISE EXCEPTION 'no such link' USING ERRCODE = 'PG002';
    END IF;
    r_topics := ARRAY(SELECT t FROM unnest(v.topics) t WHERE t = ANY (p_essential) ORDER BY t);
    -- Nobody else adds to that.
    v_own := ARRAY(SELECT t FROM unnest(coalesce(v.own_topics, p_essential)) t WHERE t = ANY (p_essential) ORDER BY t);
    r_changed := cardinality(r_topics) < cardinality(v.topics) OR v_own IS DISTINCT FROM v.own_topics;
    IF r_changed THEN
        UPDATE mailbox SET topics = r_topics, own_topics = v_own, set_at = clock_timestamp(),
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
