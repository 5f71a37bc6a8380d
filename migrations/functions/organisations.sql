-- Organisations: making one, and what staff set for it.

-- Makes an organisation with an empty account, and opens its first day and month.
CREATE FUNCTION create_organisation(p_name text, p_time_zone text, p_reference text DEFAULT NULL) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_organisation bigint; v_at timestamptz := clock(); v_day date;
BEGIN
    IF NOT EXISTS (SELECT FROM pg_timezone_names WHERE name = p_time_zone) THEN
        RAISE EXCEPTION 'no time zone "%"', p_time_zone USING ERRCODE = 'PG006';
    END IF;
    PERFORM check_clock(v_at, NULL);
    INSERT INTO organisation (name, time_zone, reference) VALUES (p_name, p_time_zone, p_reference)
    ON CONFLICT (reference) DO NOTHING
    RETURNING organisation_id INTO v_organisation;
    IF v_organisation IS NULL THEN RETURN NULL; END IF;
    v_day := day_of(v_at, p_time_zone);
    INSERT INTO account (organisation_id, day, day_ends_at, moved_at)
    VALUES (v_organisation, v_day, day_begins(v_day + 1, p_time_zone), v_at);
    INSERT INTO month (organisation_id, month, entries, funded, available, reserved, spent)
    VALUES (v_organisation, date_trunc('month', v_day)::date, 0, 0, 0, 0, 0);
    RETURN v_organisation;
END $$;
GRANT EXECUTE ON FUNCTION create_organisation TO photogate_app;

-- Sets the price of a credit. With NULLs nothing can be purchased.
CREATE FUNCTION set_price(p_organisation bigint, p_price numeric, p_currency text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE organisation SET price_per_credit = p_price, currency = p_currency WHERE organisation_id = p_organisation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION set_price TO photogate_app;

-- Sets its name, whether its people may buy, and whether it pays by a contract. What is NULL stays as it is.
CREATE FUNCTION set_organisation(p_organisation bigint, p_name text, p_purchasing boolean, p_custom_billing boolean)
RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE organisation SET
        name = coalesce(p_name, name),
        purchasing = coalesce(p_purchasing, purchasing),
        custom_billing = coalesce(p_custom_billing, custom_billing)
    WHERE organisation_id = p_organisation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION set_organisation TO photogate_app;

-- Whether its people can buy credits. Staff can add them in any case.
CREATE FUNCTION can_buy(p organisation) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = photogate, pg_temp AS $$
    SELECT p.purchasing AND NOT p.custom_billing AND p.price_per_credit IS NOT NULL
$$;

-- Sets how many credits the organisation's people buy in a month by themselves (purchases.sql).
CREATE FUNCTION set_purchase_limit(p_organisation bigint, p_credits bigint) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE organisation SET purchase_limit = p_credits WHERE organisation_id = p_organisation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION set_purchase_limit TO photogate_app;

-- Sets where the organisation's photos are in the store. Empty: wherever no other organisation's are. No other
-- organisation's part is in it, above it or below it: each would see the photos of the other.
CREATE FUNCTION set_photos_under(p_organisation bigint, p_prefix text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_other organisation;
BEGIN
    -- Without the slash, "club" would also be a prefix of "club-b".
    IF p_prefix <> '' AND right(p_prefix, 1) <> '/' THEN
        RAISE EXCEPTION 'a part of the store ends with a slash: write "%/"', p_prefix USING ERRCODE = 'PG006';
    END IF;
    -- Two organisations at the same time must not miss each other.
    PERFORM pg_advisory_xact_lock(hashtext('photogate.photos_under'));
    SELECT * INTO v_other FROM organisation
    WHERE organisation_id <> p_organisation AND p_prefix <> '' AND photos_under <> ''
        AND (starts_with(p_prefix, photos_under) OR starts_with(photos_under, p_prefix)) LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'the photos of organisation % are under "%": choose another part of the store',
            v_other.organisation_id, v_other.photos_under USING ERRCODE = 'PG006';
    END IF;
    UPDATE organisation SET photos_under = p_prefix WHERE organisation_id = p_organisation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
END $$;
GRANT EXECUTE ON FUNCTION set_photos_under TO photogate_app;

-- A part of the store for an organisation that nobody has named one for: the first may use all of it, the others a
-- directory with their name. Two that are made at the same time wait for each other until one is committed.
CREATE FUNCTION part_of_store(p_organisation bigint) RETURNS text
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_part text;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('photogate.photos_under'));
    IF NOT EXISTS (SELECT FROM organisation WHERE organisation_id <> p_organisation) THEN RETURN ''; END IF;
    SELECT trim(BOTH '-' FROM regexp_replace(left(lower(name), 60), '[^a-z0-9]+', '-', 'g')) INTO v_part
    FROM organisation WHERE organisation_id = p_organisation;
    IF v_part = '' OR EXISTS (
        SELECT FROM organisation WHERE organisation_id <> p_organisation AND starts_with(photos_under, v_part || '/'))
    THEN
        v_part := concat_ws('-', nullif(v_part, ''), p_organisation);
    END IF;
    RETURN v_part || '/';
END $$;
GRANT EXECUTE ON FUNCTION part_of_store TO photogate_app;

-- Which of these keys are not in the organisation's part of the store: their places in the list, from 1 on, or NULL.
-- Where it may use all of the store, these are the keys in the part of another organisation.
CREATE FUNCTION keys_outside(p_organisation bigint, p_keys text[]) RETURNS bigint[]
LANGUAGE plpgsql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
DECLARE v_under text; v_outside bigint[];
BEGIN
    SELECT photos_under INTO v_under FROM organisation WHERE organisation_id = p_organisation;
    IF v_under <> '' THEN
        SELECT array_agg(k.n ORDER BY k.n) INTO v_outside FROM unnest(p_keys) WITH ORDINALITY k (key, n)
        WHERE NOT starts_with(k.key, v_under);
    ELSE
        -- Parts of the store end with a slash. Many keys have few directories.
        WITH d AS (
            SELECT regexp_replace(k.key, '[^/]*$', '') AS directory, array_agg(k.n) AS places
            FROM unnest(p_keys) WITH ORDINALITY k (key, n) GROUP BY 1)
        SELECT array_agg(n ORDER BY n) INTO v_outside FROM d CROSS JOIN LATERAL unnest(d.places) n
        WHERE EXISTS (SELECT FROM organisation WHERE photos_under <> '' AND starts_with(d.directory, photos_under));
    END IF;
    RETURN v_outside;
END $$;
GRANT EXECUTE ON FUNCTION keys_outside TO photogate_app;

-- Whether another organisation may use all of the store, too. Then its people could queue this one's photos.
CREATE FUNCTION shares_store(p_organisation bigint) RETURNS boolean
LANGUAGE sql STABLE SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
    SELECT photos_under = '' AND EXISTS (
        SELECT FROM organisation o WHERE o.photos_under = '' AND o.organisation_id <> p_organisation)
    FROM organisation WHERE organisation_id = p_organisation
$$;
GRANT EXECUTE ON FUNCTION shares_store TO photogate_app;
