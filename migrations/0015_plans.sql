-- in_flight is small, and grows by what was deleted and is not vacuumed yet: a plan that was made when it was small, and
-- reads all of it, costs fifty times as much a minute later. What the gate reads, it reads by an index.
ALTER FUNCTION claim(bigint, integer, bigint, boolean) SET enable_seqscan = off;
ALTER FUNCTION close_reservations(bigint, bigint, bigint[], integer[], outcome_state[], text[], text[]) SET enable_seqscan = off;
