-- Stretches: positions of a queue that claims do not take in their turn (0003_jobs.sql). People skip photos, cancel a
-- run, or have it claimed first; the jobs stay where they are, because a queue is a log.
--
-- A call may concern ten thousand photos that stand beside each other: they are one row. A claim hops over it, however
-- long it is.
-- Whoever writes a stretch has the queue's lock. Those who change what waits by hand hold the tail, too.
-- queue_head.not_waiting: how many positions after the head do not wait, less those up to it that do. So what waits is
-- tail - head - not_waiting. No stretch reaches over the head: it passes each as a whole.

-- The stretch that a position is in, if any.
CREATE FUNCTION stretch_at(p_queue bigint, p_position bigint) RETURNS SETOF stretch
LANGUAGE sql STABLE ROWS 1 AS $$
    SELECT s.* FROM (
        SELECT x.* FROM stretch x WHERE x.queue_id = p_queue AND x.from_position <= p_position
        ORDER BY x.from_position DESC LIMIT 1) s
    WHERE s.to_position >= p_position
$$;
GRANT EXECUTE ON FUNCTION stretch_at TO photogate_app, photogate_organisation;

-- Its kind. (A worker may not read who did it.)
CREATE FUNCTION stretch_kind_at(p_queue bigint, p_position bigint) RETURNS stretch_kind
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN s.to_position >= p_position THEN s.kind END FROM (
        SELECT x.kind, x.to_position FROM stretch x WHERE x.queue_id = p_queue AND x.from_position <= p_position
        ORDER BY x.from_position DESC LIMIT 1) s
$$;
GRANT EXECUTE ON FUNCTION stretch_kind_at TO photogate_worker, photogate_app, photogate_organisation;

-- The stretches that have a position from p_from to p_to.
CREATE FUNCTION stretches_in(p_queue bigint, p_from bigint, p_to bigint) RETURNS SETOF stretch
LANGUAGE sql STABLE AS $$
    SELECT s.* FROM stretch_at(p_queue, p_from) s
    UNION ALL
    SELECT s.* FROM stretch s WHERE s.queue_id = p_queue AND s.from_position > p_from AND s.from_position <= p_to
$$;
GRANT EXECUTE ON FUNCTION stretches_in TO photogate_app, photogate_organisation;

-- How many positions these are.
CREATE FUNCTION number_of(p_positions int8multirange) RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN p_positions IS NOT NULL THEN coalesce(sum(upper(r) - lower(r)), 0)::bigint END
    FROM unnest(p_positions) r
$$;
GRANT EXECUTE ON FUNCTION number_of TO photogate_app;

-- The positions from p_from to p_to that wait.
CREATE FUNCTION waiting_positions(p_queue bigint, p_from bigint, p_to bigint) RETURNS int8multirange
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN p_to <= h.head THEN '{}'
                ELSE int8multirange(int8range(greatest(p_from, h.head + 1), p_to, '[]')) END - s.all_of_them
           + int8multirange(int8range(p_from, p_to, '[]')) * s.first
    FROM queue_head h CROSS JOIN (
        SELECT coalesce(range_agg(int8range(from_position, to_position, '[]')), '{}') AS all_of_them,
               coalesce(range_agg(int8range(from_position, to_position, '[]')) FILTER (WHERE kind = 'first'), '{}')
                   AS first
        FROM stretches_in(p_queue, p_from, p_to)) s
    WHERE h.queue_id = p_queue
$$;
GRANT EXECUTE ON FUNCTION waiting_positions TO photogate_app;

-- How many photos are claimed before the one at p_position, which waits.
CREATE FUNCTION photos_ahead(p_queue bigint, p_position bigint) RETURNS bigint
LANGUAGE sql STABLE AS $$
    SELECT CASE WHEN s.kind = 'first' THEN p_position - s.from_position + coalesce((
                    SELECT sum(x.to_position - x.from_position + 1) FROM stretch x
                    WHERE x.queue_id = p_queue AND x.kind = 'first'
                        AND (x.place, x.from_position) < (s.place, s.from_position)), 0)
                ELSE p_position - 1 - h.head + coalesce((
                    SELECT sum(x.to_position - x.from_position + 1) FROM stretch x
                    WHERE x.queue_id = p_queue AND x.kind = 'first'), 0) - coalesce((
                    SELECT sum(x.to_position - x.from_position + 1) FROM stretch x
                    WHERE x.queue_id = p_queue AND x.from_position > h.head AND x.from_position < p_position), 0)
           END::bigint
    FROM queue_head h LEFT JOIN LATERAL stretch_at(p_queue, p_position) s ON true WHERE h.queue_id = p_queue
$$;
GRANT EXECUTE ON FUNCTION photos_ahead TO photogate_app, photogate_organisation;

-- Puts positions into stretches of this kind, or (NULL) into none. They are cut at the head, which no stretch reaches
-- over. What is left of the stretches that they were in stays as it was. p_fewer: by so many, what waits becomes less.
-- Returns the stretches that they were in, cut to them. Nobody may call it but the gate's own functions.
-- Positions that do not stand beside each other are many ranges. So a stretch is only cut where it has to be: each cut
-- looks at all of them.
CREATE FUNCTION put_stretches(p_queue bigint, p_positions int8multirange, p_kind stretch_kind, p_place bigint,
    p_run bigint, p_actor text, p_fewer bigint) RETURNS stretch[]
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE
    c_stretches constant integer := 20000;                 -- after the head of a queue: a claim may hop over them all
    v_were stretch[]; v_head bigint;
BEGIN
    IF isempty(p_positions) THEN RETURN '{}'; END IF;
    SELECT head INTO v_head FROM queue_head WHERE queue_id = p_queue;
    WITH cut AS (
        DELETE FROM stretch s USING stretches_in(p_queue, lower(p_positions), upper(p_positions) - 1) o
        WHERE s.queue_id = p_queue AND s.from_position = o.from_position
            AND int8range(o.from_position, o.to_position, '[]') && p_positions
        RETURNING s)
    SELECT array_agg(s) INTO v_were FROM cut;
    INSERT INTO stretch (queue_id, from_position, to_position, kind, place, run_id, actor, at)
    SELECT s.queue_id, lower(r), upper(r) - 1, s.kind, s.place, s.run_id, s.actor, s.at
    FROM unnest(v_were) s
    CROSS JOIN unnest(int8multirange(int8range(s.from_position, s.to_position, '[]')) - p_positions) r
    WHERE NOT int8range(s.from_position, s.to_position, '[]') <@ p_positions;
    IF p_kind IS NOT NULL THEN
        INSERT INTO stretch (queue_id, from_position, to_position, kind, place, run_id, actor)
        SELECT p_queue, lower(r), upper(r) - 1, p_kind, p_place, p_run, p_actor FROM cut_at(p_positions, v_head) r;
        IF c_stretches < (SELECT count(*) FROM stretch WHERE queue_id = p_queue AND from_position > v_head) THEN
            RAISE EXCEPTION 'photos of this queue are skipped, or go first, in more than % places: choose photos that '
                'stand beside each other, or wait until some are claimed', c_stretches USING ERRCODE = 'PG009';
        END IF;
    END IF;
    UPDATE queue_head SET not_waiting = not_waiting + p_fewer WHERE queue_id = p_queue;
    PERFORM keep_queue(p_queue);
    RETURN coalesce((
        SELECT array_agg((s.queue_id, lower(r), upper(r) - 1, s.kind, s.place, s.run_id, s.actor, s.at)::stretch)
        FROM unnest(v_were) s
        CROSS JOIN LATERAL (SELECT int8multirange(int8range(s.from_position, s.to_position, '[]')) AS all_of_it) a
        CROSS JOIN LATERAL unnest(CASE WHEN a.all_of_it <@ p_positions THEN a.all_of_it
                                       ELSE a.all_of_it * p_positions END) r), '{}');
END $$;

-- Positions as ranges, of which none reaches over the head.
CREATE FUNCTION cut_at(p_positions int8multirange, p_head bigint) RETURNS SETOF int8range
LANGUAGE sql IMMUTABLE AS $$
    SELECT unnest(p_positions * int8multirange(int8range(NULL, p_head, '[]')))
    UNION ALL
    SELECT unnest(p_positions * int8multirange(int8range(p_head + 1, NULL)))
$$;

-- Notes of a queue whether anything waits in it, and whether claims must look at stretches. The caller has the locks of
-- its tail and of itself.
CREATE FUNCTION keep_queue(p_queue bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_waiting bigint; v_tail bigint;
BEGIN
    SELECT t.tail - h.head - h.not_waiting, t.tail INTO v_waiting, v_tail
    FROM queue_head h JOIN queue_tail t USING (queue_id) WHERE h.queue_id = p_queue;
    IF v_waiting = 0 THEN
        -- All that is left is passed over.
        UPDATE queue_head SET head = v_tail, not_waiting = 0 WHERE queue_id = p_queue;
        DELETE FROM stretch WHERE queue_id = p_queue AND kind = 'taken';
        UPDATE queue SET drained = true, stretched = false WHERE queue_id = p_queue AND (NOT drained OR stretched);
    ELSE
        UPDATE queue SET drained = false, stretched = true,
            filled_at = CASE WHEN drained THEN clock_timestamp() ELSE filled_at END
        WHERE queue_id = p_queue AND (drained OR NOT stretched);
    END IF;
END $$;

-- How many photos of each of these queues a claim takes, of an organisation that has decided nothing: equal shares,
-- rounded up, and cut in turn to what the quota allows. claim.sql does the same by itself where no queue has stretches.
CREATE FUNCTION share_equally(p_quota bigint, p_queues bigint[], p_turns bigint[]) RETURNS bigint[]
LANGUAGE sql STABLE AS $$
    SELECT array_agg(coalesce(greatest(0, least(want, p_quota - upto + want)), 0) ORDER BY n) FROM (
        SELECT u.n, w.want, sum(w.want) OVER (ORDER BY u.turn) AS upto
        FROM unnest(p_queues, p_turns) WITH ORDINALITY u (queue_id, turn, n)
        JOIN queue_head h USING (queue_id) JOIN queue_tail t USING (queue_id)
        CROSS JOIN LATERAL (
            SELECT CASE WHEN u.turn > p_quota THEN 0 ELSE least(t.tail - h.head - h.not_waiting, ceil(
                p_quota::numeric / least(p_quota, cardinality(p_queues)))::bigint) END AS want) w) s
$$;

-- Takes the next p_take photos out of a queue with stretches, for a claim: those that go first, then those whose turn
-- it is. It moves the head, and says which positions were taken: after r_after[i], up to r_upto[i]. The claim has the
-- queue's lock, and at least so many wait. Nobody may call it but the claim.
CREATE FUNCTION take_stretched(p_queue bigint, p_take bigint, OUT r_after bigint[], OUT r_upto bigint[])
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp SET enable_seqscan = off AS $$
DECLARE v_head queue_head; v_tail bigint; v_left bigint := p_take; v_n bigint; v stretch;
BEGIN
    r_after := '{}';
    r_upto := '{}';
    -- From the end, as in claim.sql.
    SELECT * INTO v_head FROM queue_head WHERE queue_id BETWEEN p_queue AND p_queue ORDER BY queue_id DESC LIMIT 1;
    SELECT tail INTO v_tail FROM queue_tail WHERE queue_id BETWEEN p_queue AND p_queue ORDER BY queue_id DESC LIMIT 1;
    WHILE v_left > 0 LOOP
        SELECT * INTO v FROM stretch WHERE queue_id = p_queue AND kind = 'first'
        ORDER BY queue_id, place, from_position LIMIT 1;
        EXIT WHEN NOT FOUND;
        v_n := least(v_left, v.to_position - v.from_position + 1);
        r_after := r_after || v.from_position - 1;
        r_upto := r_upto || v.from_position - 1 + v_n;
        v_left := v_left - v_n;
        v_head.not_waiting := v_head.not_waiting + v_n;
        DELETE FROM stretch WHERE queue_id = p_queue AND from_position = v.from_position;
        IF v.from_position > v_head.head THEN
            -- The head has them before it. They are one row with those that were taken before them.
            UPDATE stretch s SET to_position = s.to_position + v_n FROM stretch_at(p_queue, v.from_position - 1) x
            WHERE s.queue_id = p_queue AND s.from_position = x.from_position AND x.kind = 'taken';
            IF NOT FOUND THEN
                INSERT INTO stretch (queue_id, from_position, to_position, kind, run_id, actor, at)
                VALUES (p_queue, v.from_position, v.from_position - 1 + v_n, 'taken', v.run_id, v.actor, v.at);
            END IF;
        END IF;
        IF v.from_position + v_n <= v.to_position THEN
            v.from_position := v.from_position + v_n;
            INSERT INTO stretch SELECT v.*;
        END IF;
    END LOOP;
    LOOP
        -- Up to the next stretch, and over it.
        SELECT * INTO v FROM stretch WHERE queue_id = p_queue AND from_position > v_head.head
        ORDER BY from_position LIMIT 1;
        v_n := least(v_left, coalesce(v.from_position - 1, v_tail) - v_head.head);
        IF v_n > 0 THEN
            r_after := r_after || v_head.head;
            v_head.head := v_head.head + v_n;
            r_upto := r_upto || v_head.head;
            v_left := v_left - v_n;
        END IF;
        EXIT WHEN v.from_position IS DISTINCT FROM v_head.head + 1;
        v_n := v.to_position - v.from_position + 1;
        v_head.head := v.to_position;
        v_head.not_waiting := v_head.not_waiting - v_n;
        IF v.kind = 'taken' THEN
            DELETE FROM stretch WHERE queue_id = p_queue AND from_position = v.from_position;
        END IF;
    END LOOP;
    IF v_left > 0 THEN
        RAISE EXCEPTION 'queue % has fewer photos than it counts', p_queue USING ERRCODE = 'assert_failure';
    END IF;
    UPDATE queue_head SET head = v_head.head, not_waiting = v_head.not_waiting, claimed = claimed + p_take,
        claimed_at = clock_timestamp()
    WHERE queue_id = p_queue;
    UPDATE queue SET stretched = false
    WHERE queue_id = p_queue
        AND NOT EXISTS (SELECT FROM stretch WHERE queue_id = p_queue AND from_position > v_head.head)
        AND NOT EXISTS (SELECT FROM stretch WHERE queue_id = p_queue AND kind = 'first');
END $$;
