-- Who sees which rows and columns.
--
-- The application and the workers see all rows. The role photogate_organisation sees the rows of the organisation that
-- its transaction names (SET LOCAL photogate.organisation = '7'), and none if it names none. The gate's functions run
-- as the owner, so row security does not concern them and costs them nothing.
--
-- Each new table needs a policy here, or an entry in the list of exceptions in tests/it/chain.rs. The test checks.
-- The tables worker, attempt, reconciliation, ledger_checked and queue_checked have none. photogate_organisation has no
-- right to them at all.

DO $$
DECLARE
    -- The organisation that the transaction names, or NULL. It is a sub-select so that it is evaluated once a
    -- statement, not once a row. It is not a function: nothing that can be replaced should stand between a policy and
    -- its rows.
    c_this  constant text := $mine$(SELECT nullif(current_setting('photogate.organisation', true), '')::bigint)$mine$;
    v_table text;
    v_mine  text;
BEGIN
    FOR v_table, v_mine IN VALUES
        ('organisation', 'organisation_id = ' || c_this),
        ('account',      'organisation_id = ' || c_this),
        ('month',        'organisation_id = ' || c_this),
        ('ledger',       'organisation_id = ' || c_this),
        ('link',         'organisation_id = ' || c_this),
        ('top_up',       'organisation_id = ' || c_this),
        ('purchase_request', 'organisation_id = ' || c_this),
        ('auto_top_up',  'organisation_id = ' || c_this),
        ('payment',      'organisation_id = ' || c_this),
        ('event',        'organisation_id = ' || c_this),
        ('upload',       'organisation_id = ' || c_this),
        ('queue',        'organisation_id = ' || c_this),
        ('steering',     'organisation_id = ' || c_this),
        ('budget',       'organisation_id = ' || c_this),
        ('budget_change', 'organisation_id = ' || c_this),
        ('pace',         'organisation_id = ' || c_this),
        ('run',          'organisation_id = ' || c_this),
        ('usage',        'organisation_id = ' || c_this),
        ('in_flight',    'organisation_id = ' || c_this),
        ('follow_up',    'organisation_id = ' || c_this),
        ('undo',         'organisation_id = ' || c_this),
        ('timeline',     'organisation_id = ' || c_this),
        ('resume_cause', 'organisation_id = ' || c_this),
        ('schedule',     'organisation_id = ' || c_this),
        ('new_change',   'organisation_id = ' || c_this),
        ('change',       'organisation_id = ' || c_this),
        ('change_end',   'organisation_id = ' || c_this),
        ('delivery',     'organisation_id = ' || c_this),
        ('alert',        'organisation_id = ' || c_this),
        ('schedule_part', 'EXISTS (SELECT FROM schedule s WHERE s.schedule_id = schedule_part.schedule_id)'),
        -- These go by what they belong to, whose rows are secured in turn.
        ('photo',        'EXISTS (SELECT FROM event e WHERE e.event_id = photo.event_id)'),
        ('start_list',   'EXISTS (SELECT FROM event e WHERE e.event_id = start_list.event_id)'),
        ('job',          'EXISTS (SELECT FROM queue q WHERE q.queue_id = job.queue_id)'),
        ('outcome',      'EXISTS (SELECT FROM queue q WHERE q.queue_id = outcome.queue_id)'),
        ('stretch',      'EXISTS (SELECT FROM queue q WHERE q.queue_id = stretch.queue_id)'),
        ('queue_head',   'EXISTS (SELECT FROM queue q WHERE q.queue_id = queue_head.queue_id)'),
        ('queue_tail',   'EXISTS (SELECT FROM queue q WHERE q.queue_id = queue_tail.queue_id)'),
        ('queue_settled', 'EXISTS (SELECT FROM queue q WHERE q.queue_id = queue_settled.queue_id)'),
        ('pulse',        'EXISTS (SELECT FROM queue q WHERE q.queue_id = pulse.queue_id)'),
        ('pulse_taken',  'EXISTS (SELECT FROM queue q WHERE q.queue_id = pulse_taken.queue_id)'),
        ('hold',         'EXISTS (SELECT FROM queue q WHERE q.queue_id = hold.queue_id)'),
        ('looked_at',    'EXISTS (SELECT FROM photo p WHERE p.photo_id = looked_at.photo_id)'),
        ('face',         'EXISTS (SELECT FROM photo p WHERE p.photo_id = face.photo_id)'),
        ('bib',          'EXISTS (SELECT FROM photo p WHERE p.photo_id = bib.photo_id)'),
        ('reconsideration', 'EXISTS (SELECT FROM event e WHERE e.event_id = reconsideration.event_id)'),
        ('number_correction', 'EXISTS (SELECT FROM photo p WHERE p.photo_id = number_correction.photo_id)'),
        ('turn_correction', 'EXISTS (SELECT FROM photo p WHERE p.photo_id = turn_correction.photo_id)'),
        ('erasure',      'EXISTS (SELECT FROM event e WHERE e.event_id = erasure.event_id)'),
        ('rotation',     'EXISTS (SELECT FROM photo p WHERE p.photo_id = rotation.photo_id)')
    LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
        -- The application is a member of photogate_worker.
        EXECUTE format('CREATE POLICY all_rows ON %I TO photogate_worker USING (true) WITH CHECK (true)', v_table);
        EXECUTE format('CREATE POLICY own_rows ON %I FOR SELECT TO photogate_organisation USING (%s)', v_table, v_mine);
        EXECUTE format('GRANT SELECT ON %I TO photogate_organisation', v_table);
    END LOOP;

    -- Who may use the service concerns the application only: no worker, and nobody who looks at one organisation. Nor
    -- does what is left of deleted events, which workers learn from a function.
    FOREACH v_table IN ARRAY ARRAY['person', 'second_factor', 'recovery_code', 'invitation', 'token', 'session',
                                   'login_try', 'pipeline', 'audit_log', 'audit_chain', 'clock_confirmation',
                                   'leftover_file', 'erased_bib', 'content', 'webhook', 'mailbox', 'mail_server',
                                   'payment_provider', 'finder'] LOOP
        EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', v_table);
        EXECUTE format('CREATE POLICY all_rows ON %I TO photogate_app USING (true) WITH CHECK (true)', v_table);
    END LOOP;
END $$;

-- The check of the books needs to know where an account was put back. No organisation sees it.
ALTER TABLE clock_repair ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_rows ON clock_repair TO photogate_worker USING (true) WITH CHECK (true);

-- A worker checks the books. It may not read who did something, or why. In such tables it may read the other columns
-- only.
GRANT SELECT ON account, month, ledger, link, steering, budget, queue, queue_head, queue_tail, queue_settled, usage,
    job, worker, in_flight, attempt, outcome
TO photogate_worker;
GRANT SELECT (organisation_id, time_zone) ON organisation TO photogate_worker;
GRANT SELECT (transaction_id, organisation_id, kind, amount, at, shown_at) ON top_up TO photogate_worker;
GRANT SELECT (queue_id, from_position, to_position, kind) ON stretch TO photogate_worker;
GRANT SELECT (photo_id, after_queue, after_position, after_job) ON follow_up TO photogate_worker;
GRANT SELECT (queue_id, lifted_at) ON hold TO photogate_worker;
GRANT SELECT (organisation_id, entry, at) ON clock_repair TO photogate_worker;
GRANT SELECT (entry_id, event_id, operation, kind, cause) ON timeline TO photogate_worker;
-- Beside the check, it continues the trace of the call that enqueued a photo.
GRANT SELECT (run_id, queue_id, first_position, queued, trace) ON run TO photogate_worker;
-- It applies the start list to the text that it has read.
GRANT SELECT ON start_list TO photogate_worker;
