//! The checks at the end of the demo: the history, the books, and the findings.

use anyhow::Context;

use super::{
    show::Show,
    tell::{mark, sentence, tell},
};
use crate::{
    catalog::findings,
    cli::{credits, output},
    ids::OrganisationId,
    ledger::{
        credits::Credits,
        history,
        reconcile::{self, Check, Scope},
    },
};

impl Show {
    /// Checks what the demo promises of the history, the books and the findings.
    pub(super) async fn check_books(&mut self, organisation: OrganisationId) -> anyhow::Result<()> {
        let mut db = self.pool.acquire().await?;
        tell!(self.bar, "\nTransaction history\n");
        let history = history::history(&mut db, organisation, history::Page::default()).await?;
        tell!(
            self.bar,
            "{}",
            output::table(
                credits::HISTORY,
                &history.iter().map(credits::history_row).collect::<Vec<_>>()
            )
            .trim_end()
        );
        let balance = crate::ledger::credits::balance(&mut db, organisation)
            .await?
            .context("the organisation does not exist any more")?;
        let sum: i64 = history.iter().map(|row| row.credits.0).sum();
        self.promise(
            sum == balance.available.0,
            format!("the history adds up to the balance: {} credits", balance.available),
        );

        tell!(self.bar, "\nReconciliation\n");
        for Check { invariant, meaning, violations, .. } in
            reconcile::reconcile(&mut db, Scope::Full).await?
        {
            tell!(self.bar, "  {} {meaning}", mark(violations == 0));
            self.promise(violations == 0, format!("the books: {invariant}"));
        }

        let mut spent = 0;
        tell!(self.bar, "\nFindings\n");
        for (event, _) in &self.events {
            let found = findings::of_event(&mut db, *event).await?;
            for one in &found {
                let as_labelled = self.labels.get(&one.key).is_some_and(|label| label.agrees(one));
                tell!(self.bar, "  {} {}", mark(as_labelled), sentence(one));
                self.promises.push((
                    as_labelled,
                    format!("{}, {}: the findings match the label", one.key, one.operation),
                ));
                spent += i64::from(one.reason.is_none());
            }
        }
        self.promise(
            balance.spent == Credits(spent),
            format!(
                "{spent} photos were processed and cost exactly {} credits; what failed or stayed \
                 undecided cost nothing",
                balance.spent
            ),
        );
        let seen = self.told.len();
        self.promise(seen == self.labels.len() * 2, format!("all {seen} photos have an outcome"));
        Ok(())
    }
}
