-- A page of the history of organisation $1: rows of the kinds $2 and of event $3, if they are given, from $5 until $6,
-- of day $10 or later, and older than the position ($7, $8, $9); at most $4, newest first.
--
-- Each part of m reads an index backwards, day by day, and stops when it has $4 rows. The days are compared with $7
-- and $10 too, because a stored plan may read the index by parameters alone. The rows of an event come from its queues:
-- among the rows of all events, those of an event that has few were searched for through the whole ledger. What a row
-- needs of others (run, link) is looked up for each row: a join would read all runs that there ever were.
WITH o AS MATERIALIZED (
    SELECT organisation_id, time_zone, day_of(greatest(clock(), moved_at), time_zone) AS today,
           greatest(day_of($5::timestamptz, time_zone), $10::date) AS first,
           least($7, day_of($6::timestamptz - interval '1 microsecond', time_zone)) AS last,
           greatest($5, day_begins($10, time_zone)) AS since
    FROM organisation JOIN account USING (organisation_id) WHERE organisation_id = $1),
m AS MATERIALIZED (
    (SELECT kind::text AS kind, amount AS credits, NULL::bigint AS queue_id, 0::bigint AS run_id, transaction_id, actor,
            nullif(note, '') AS note, price_per_credit, currency, shown_at AS at, NULL::timestamptz AS begins_at,
            day_of(shown_at, time_zone) AS day, entry, false AS is_usage
     FROM o JOIN top_up t USING (organisation_id) CROSS JOIN LATERAL (
         SELECT entry FROM ledger l WHERE l.transaction_id = t.transaction_id AND l.leg = 0 LIMIT 1) l
     WHERE t.organisation_id = $1 AND $3::bigint IS NULL AND shown_at >= o.since AND shown_at < $6
       AND shown_at < day_begins($7 + 1, time_zone)
       AND (day_of(shown_at, time_zone), entry, 0::bigint) < ($7, $8, $9::bigint)
       AND (kind::text = ANY ($2) OR $2 = '{}')
     ORDER BY shown_at DESC, entry DESC LIMIT $4)
    UNION ALL
    (SELECT 'usage', -u.claimed, u.queue_id, u.run_id, NULL, NULL, NULL, NULL, NULL,
            u.last_claimed_at, u.first_claimed_at, u.day, u.claimed_entry, true
     FROM o JOIN usage u USING (organisation_id)
     WHERE u.organisation_id = $1 AND $3 IS NULL AND u.first_claimed_at IS NOT NULL
       AND u.day >= o.first AND u.day <= o.last AND u.day >= $10
       AND (u.day, u.claimed_entry, u.run_id) < ($7, $8, $9::bigint)
       AND u.last_claimed_at >= $5 AND u.last_claimed_at < $6
       AND ('usage' = ANY ($2) OR $2 = '{}')
     ORDER BY u.day DESC, u.claimed_entry DESC, u.run_id DESC LIMIT $4)
    UNION ALL
    (SELECT 'refund', u.refunded, u.queue_id, u.run_id, NULL, 'System', NULL, NULL, NULL,
            u.last_refunded_at, u.first_refunded_at, u.day, u.refunded_entry, true
     FROM o JOIN usage u USING (organisation_id)
     WHERE u.organisation_id = $1 AND $3 IS NULL AND u.first_refunded_at IS NOT NULL
       AND u.day >= o.first AND u.day <= o.last AND u.day >= $10
       AND (u.day, u.refunded_entry, u.run_id) < ($7, $8, $9::bigint)
       AND u.last_refunded_at >= $5 AND u.last_refunded_at < $6
       AND ('refund' = ANY ($2) OR $2 = '{}')
     ORDER BY u.day DESC, u.refunded_entry DESC, u.run_id DESC LIMIT $4)
    UNION ALL
    (SELECT u.*
     FROM o CROSS JOIN queue q CROSS JOIN LATERAL (
         SELECT 'usage', -u.claimed, u.queue_id, u.run_id, NULL::bigint, NULL, NULL, NULL::numeric, NULL,
                u.last_claimed_at, u.first_claimed_at, u.day, u.claimed_entry AS entry, true
         FROM usage u
         WHERE u.queue_id = q.queue_id
           AND u.day >= o.first AND u.day <= o.last AND u.day >= $10
           AND (u.day, u.claimed_entry, u.run_id) < ($7, $8, $9::bigint)
           AND u.last_claimed_at >= $5 AND u.last_claimed_at < $6
         ORDER BY u.day DESC, u.claimed_entry DESC, u.run_id DESC LIMIT $4) u
     WHERE q.event_id = $3 AND q.organisation_id = $1 AND ('usage' = ANY ($2) OR $2 = '{}'))
    UNION ALL
    (SELECT u.*
     FROM o CROSS JOIN queue q CROSS JOIN LATERAL (
         SELECT 'refund', u.refunded, u.queue_id, u.run_id, NULL::bigint, 'System', NULL, NULL::numeric, NULL,
                u.last_refunded_at, u.first_refunded_at, u.day, u.refunded_entry AS entry, true
         FROM usage u
         WHERE u.queue_id = q.queue_id
           AND u.day >= o.first AND u.day <= o.last AND u.day >= $10
           AND (u.day, u.refunded_entry, u.run_id) < ($7, $8, $9::bigint)
           AND u.last_refunded_at >= $5 AND u.last_refunded_at < $6
         ORDER BY u.day DESC, u.refunded_entry DESC, u.run_id DESC LIMIT $4) u
     WHERE q.event_id = $3 AND q.organisation_id = $1 AND ('refund' = ANY ($2) OR $2 = '{}'))
    ORDER BY day DESC, entry DESC, run_id DESC LIMIT $4)
SELECT m.kind AS "kind!: Kind", m.credits AS "credits!: Credits",
       (SELECT l.available FROM link l WHERE l.organisation_id = $1 AND l.last_entry >= m.entry
        ORDER BY l.last_entry LIMIT 1) AS "balance!: Credits",
       m.is_usage AND m.day >= o.today AS "growing!",
       q.event_id AS "event?: EventId", e.name AS "event_name?", q.operation AS "operation?: Operation",
       CASE WHEN m.is_usage THEN m.run_id END AS "run: RunId", m.transaction_id AS "transaction: JobId",
       coalesce(m.actor, (SELECT r.actor FROM run r WHERE r.run_id = m.run_id)) AS "actor!",
       m.note, m.price_per_credit, m.currency, m.at AS "at!", m.begins_at AS "from",
       ARRAY[m.day - DATE '0001-01-01' + 1, m.entry, m.run_id] AS "cursor!: Cursor"
FROM m CROSS JOIN o LEFT JOIN queue q ON q.queue_id = m.queue_id LEFT JOIN event e ON e.event_id = q.event_id
ORDER BY m.day DESC, m.entry DESC, m.run_id DESC
