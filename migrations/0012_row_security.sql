-- Who sees which rows. The application and the workers see all; the role photogate_organisation sees those of the
-- organisation that its transaction names (SET LOCAL photogate.organisation = '7'), and none if it names none. The
-- gate's functions run as the owner, whom this does not concern.

CREATE FUNCTION this_organisation() RETURNS bigint LANGUAGE sql STABLE SET search_path = photogate, pg_temp AS $$
    SELECT nullif(current_setting('photogate.organisation', true), '')::bigint
$$;
GRANT EXECUTE ON FUNCTION this_organisation, opening_of, month_of, month_begins, clock TO photogate_organisation;
GRANT EXECUTE ON FUNCTION this_organisation TO photogate_worker;

DO $$
DECLARE v_table text; v_mine text;
BEGIN
    FOR v_table, v_mine IN VALUES
        ('organisation', 'organisation_id = (SELECT this_organisation())'),
        ('account',      'organisation_id = (SELECT this_organisation())'),
        ('month',        'organisation_id = (SELECT this_organisation())'),
        ('ledger',       'organisation_id = (SELECT this_organisation())'),
        ('link',         'organisation_id = (SELECT this_organisation())'),
        ('top_up',       'organisation_id = (SELECT this_organisation())'),
        ('event',        'organisation_id = (SELECT this_organisation())'),
        ('queue',        'organisation_id = (SELECT this_organisation())'),
        ('run',          'organisation_id = (SELECT this_organisation())'),
        ('usage',        'organisation_id = (SELECT this_organisation())'),
        ('in_flight',    'organisation_id = (SELECT this_organisation())'),
        -- By what they belong to; the rows of that are secured in turn.
        ('photo',        'EXISTS (SELECT FROM event e WHERE e.event_id = photo.event_id)'),
        ('job',          'EXISTS (SELECT FROM queue q WHERE q.queue_id = job.queue_id)'),
        ('outcome',      'EXISTS (SELECT FROM queue q WHERE q.queue_id = outcome.queue_id)'),
        ('skip',         'EXISTS (SELECT FROM queue q WHERE q.queue_id = skip.queue_id)'),
        ('hold',         'EXISTS (SELECT FROM queue q WHERE q.queue_id = hold.queue_id)'),
        ('looked_at',    'EXISTS (SELECT FROM photo p WHERE p.photo_id = looked_at.photo_id)'),
        ('face',         'EXISTS (SELECT FROM photo p WHERE p.photo_id = face.photo_id)'),
        ('bib',          'EXISTS (SELECT FROM photo p WHERE p.photo_id = bib.photo_id)'),
        ('rotation',     'EXISTS (SELECT FROM photo p WHERE p.photo_id = rotation.photo_id)')
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY all_rows ON %I TO photogate_worker USING (true) WITH CHECK (true)', v_table);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR SELECT TO photogate_organisation USING (%s)', v_table, v_mine);
        EXECUTE format('GRANT SELECT ON %I TO photogate_organisation', v_table);
    END LOOP;
END $$;

-- A worker checks the books as it goes; it need not know who did what, and why.
GRANT SELECT ON account, month, ledger, link, queue, usage, job, worker, in_flight, attempt TO photogate_worker;
GRANT SELECT (organisation_id, time_zone) ON organisation TO photogate_worker;
GRANT SELECT (queue_id, position) ON skip TO photogate_worker;
GRANT SELECT (queue_id, lifted_at) ON hold TO photogate_worker;
GRANT EXECUTE ON FUNCTION month_begins TO photogate_worker;
GRANT SELECT (transaction_id, organisation_id, kind, amount, at) ON top_up TO photogate_worker;
