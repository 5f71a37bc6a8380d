//! The invariants of rights and triggers.

use sqlx::PgConnection;

use super::invariant::{Check, check};
use crate::ids::OrganisationId;

/// The invariants of rights and triggers.
pub(super) async fn rights(tx: &mut PgConnection, checks: &mut Vec<Check>) -> sqlx::Result<()> {
    check!(
        tx,
        checks,
        "ledger_is_append_only",
        "the application cannot write money, nobody can change the ledger, and entries are sealed",
        "SELECT NULL::bigint, format('%s may write %s', r, t)
         FROM unnest(ARRAY['photogate_app', 'photogate_worker', 'photogate_organisation',
                           'photogate_pipeline']) r,
              unnest(ARRAY['account', 'ledger', 'link', 'month', 'usage', 'top_up', 'outcome',
                           'in_flight', 'job', 'queue', 'queue_head', 'queue_tail',
                           'queue_settled', 'pulse', 'pulse_taken', 'run', 'hold', 'content',
                           'follow_up', 'stretch', 'undo',
                           'worker', 'attempt', 'steering', 'budget', 'budget_change', 'pace',
                           'timeline', 'resume_cause', 'purchase_request', 'auto_top_up',
                           'payment', 'payment_provider', 'schedule', 'schedule_part',
                           'new_change', 'change', 'change_end', 'webhook', 'delivery',
                           'alert', 'mailbox', 'mail_server', 'finder',
                           'reconciliation', 'ledger_checked', 'queue_checked',
                           'looked_at', 'face', 'bib', 'rotation', 'upload', 'archive',
                           'archive_part', 'archive_jobs', 'archive_queue']) t
         WHERE has_table_privilege(r, 'photogate.' || t, 'INSERT, UPDATE, DELETE, TRUNCATE')
            OR has_any_column_privilege(r, 'photogate.' || t, 'INSERT, UPDATE')
         UNION ALL
         SELECT NULL, format('a worker may read %s', t)
         FROM unnest(ARRAY['looked_at', 'face', 'bib', 'rotation', 'content']) t
         WHERE has_any_column_privilege('photogate_worker', 'photogate.' || t, 'SELECT')
         UNION ALL
         SELECT NULL, 'a worker may top up'
         WHERE has_function_privilege(
             'photogate_worker',
             'photogate.top_up(bigint, photogate.top_up_kind, bigint, text, text, text)',
             'EXECUTE')
         UNION ALL
         SELECT NULL, format('%s may call %s', r, p.proname)
         FROM pg_proc p, unnest(ARRAY['photogate_worker', 'photogate_organisation',
                                      'photogate_pipeline']) r
         WHERE p.pronamespace = 'photogate'::regnamespace
           AND p.proname IN ('begin_archive', 'take_archive', 'archive_page', 'note_archive_part',
                             'seal_archive', 'delete_archived', 'begin_restore', 'restore_lines',
                             'end_restore', 'begin_give_up', 'end_give_up', 'archive_is_verified',
                             'archive_is_cleared')
           AND has_function_privilege(r, p.oid, 'EXECUTE')
         UNION ALL
         SELECT NULL, format('the trigger %s of %s is not in force', name, of)
         FROM (VALUES ('ledger', 'ledger_is_append_only'), ('ledger', 'ledger_is_sealed'),
                      ('top_up', 'top_up_is_append_only'), ('link', 'link_is_append_only'),
                      ('month', 'month_is_append_only'), ('month', 'month_is_kept'),
                      ('timeline', 'timeline_is_append_only')) t (of, name)
         WHERE NOT EXISTS (
             SELECT FROM pg_trigger
             WHERE tgname = name AND tgrelid = ('photogate.' || of)::regclass
               AND tgenabled = 'O')"
    );
    Ok(())
}
