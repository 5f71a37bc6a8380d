-- What a credit costs an organisation. Without a price (custom billing, or none) nothing can be purchased; staff may grant.

ALTER TABLE organisation
    ADD COLUMN price_per_credit numeric(12, 4) CHECK (price_per_credit >= 0),
    ADD COLUMN currency         text CHECK (currency ~ '^[A-Z]{3}$'), -- ISO 4217
    ADD CHECK ((price_per_credit IS NULL) = (currency IS NULL));

-- As it was at the moment of the purchase. Those from before there were prices have none.
ALTER TABLE top_up
    ADD COLUMN price_per_credit numeric(12, 4) CHECK (price_per_credit >= 0),
    ADD COLUMN currency         text CHECK (currency ~ '^[A-Z]{3}$'),
    ADD CHECK ((price_per_credit IS NULL) = (currency IS NULL)),
    ADD CHECK (price_per_credit IS NULL OR kind = 'purchase');

-- Sets the price of a credit, or with NULLs ends purchasing.
CREATE FUNCTION set_price(p_organisation bigint, p_price numeric, p_currency text) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER SET search_path = photogate, pg_temp AS $$
BEGIN
    UPDATE organisation SET price_per_credit = p_price, currency = p_currency WHERE organisation_id = p_organisation;
    IF NOT FOUND THEN RAISE EXCEPTION 'no organisation %', p_organisation USING ERRCODE = 'PG002'; END IF;
END $$;

GRANT EXECUTE ON FUNCTION set_price TO photogate_app;
