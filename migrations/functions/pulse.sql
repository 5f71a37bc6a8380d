-- The pulse of a queue: how many of its photos were settled in each slot of five minutes of the last three hours. It is
-- in the row that a settlement counts in anyway (queue_settled), so it costs no write of its own. Nothing is decided by
-- it: pages draw it.

-- The slot of an instant: periods of five minutes since 1970.
CREATE FUNCTION slot_of(p_at timestamptz) RETURNS integer
LANGUAGE sql STABLE AS $$ SELECT floor(extract(epoch FROM p_at) / 300)::integer $$;
GRANT EXECUTE ON FUNCTION slot_of TO photogate_app;

-- A pulse, p_slots later, with p_more in its newest slot. (If the clock was put back, they count as of the newest.)
CREATE FUNCTION pulse_after(p_pulse integer[], p_slots integer, p_more integer) RETURNS integer[]
LANGUAGE sql IMMUTABLE AS $$
    SELECT (CASE WHEN p_slots <= 0 THEN ARRAY[coalesce(p_pulse[1], 0) + p_more] || p_pulse[2:]
                 ELSE ARRAY[p_more] || array_fill(0, ARRAY[least(p_slots, 36) - 1]) || p_pulse END)[1:36]
$$;
