//! Credits that staff add to an organisation's account, or take away: the form, the question that
//! says what the balance will be, and the booking.

use axum::{extract::State, response::Redirect};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    super::{Form, Page, confirm, layout},
    about,
};
use crate::{
    access::Caller,
    commands::{Addition, MAY_GRANT, Twin},
    ids::OrganisationId,
    ledger::{credits::Credits, top_up::TopUpKind},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
        problem::Problem,
        reads::balance_of,
    },
};

/// What staff book here. A purchase is made on the page of credits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(in super::super) enum Kind {
    AdminGrant,
    FreeCredits,
    Adjustment,
}

impl Kind {
    const ALL: [Self; 3] = [Self::AdminGrant, Self::FreeCredits, Self::Adjustment];

    fn code(self) -> &'static str {
        match self {
            Self::AdminGrant => "admin_grant",
            Self::FreeCredits => "free_credits",
            Self::Adjustment => "adjustment",
        }
    }

    /// As the form says it.
    fn says(self) -> &'static str {
        match self {
            Self::AdminGrant => "Grant: what a contract says, or what was paid otherwise",
            Self::FreeCredits => "Free credits: a gift",
            Self::Adjustment => "Adjustment: corrects the account, up or down",
        }
    }

    fn top_up(self) -> TopUpKind {
        match self {
            Self::AdminGrant => TopUpKind::AdminGrant,
            Self::FreeCredits => TopUpKind::FreeCredits,
            Self::Adjustment => TopUpKind::Adjustment,
        }
    }
}

pub(super) fn form(organisation: OrganisationId, caller: &Caller) -> Markup {
    let kinds = Kind::ALL.map(|kind| (kind.code(), kind.says()));
    html! {
        @if MAY_GRANT.contains(&caller.role) {
            form.panel.sheet method="get" action={ "/organisations/" (organisation) "/credits" } {
                // The idempotency key: a form that is sent twice books once.
                input type="hidden" name="once" value=(Uuid::now_v7());
                (layout::choice("What it is", "kind", &kinds, kinds[0].0))
                label { "Credits (an adjustment may be negative)"
                    input type="number" name="credits" min="-1000000000" max="1000000000" step="1"
                        required; }
                label { "Reason: the organisation reads it in its history"
                    input name="note" maxlength="1000" required; }
                div.row { button type="submit" { "Continue" } }
            }
        }
    }
}

/// What is to be booked, as the forms send it.
#[derive(Debug, Deserialize)]
pub(in super::super) struct Grant {
    kind: Kind,
    credits: Credits,
    note: String,
    once: String,
}

impl Grant {
    fn check(&self) -> Result<&str, Problem> {
        let note = self.note.trim();
        if note.is_empty() {
            return Err(Problem::invalid("note", "say why: the organisation reads it"));
        }
        if self.credits.0 == 0 || self.credits.0 < 0 && self.kind != Kind::Adjustment {
            let detail = "enter a number of credits from 1 on; only an adjustment can be negative";
            return Err(Problem::invalid("credits", detail));
        }
        Ok(note)
    }
}

/// Says what the balance will be, and asks.
pub(in super::super) async fn ask(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<OrganisationId>,
    Query(grant): Query<Grant>,
) -> Page {
    browser.caller.must_be(MAY_GRANT)?;
    let organisation = about(&service, &mut browser, id).await?;
    let note = grant.check()?;
    let balance = balance_of(&mut *service.database.acquire().await?, id).await?;
    let after = balance.available.0.saturating_add(grant.credits.0);
    let takes = grant.credits.0 < 0;
    let amount = Credits(grant.credits.0.saturating_abs());
    let says = html! {
        p {
            @if takes { "Take " } @else { "Add " }
            strong { (amount) } " credits " @if takes { "from " } @else { "to " }
            strong { (organisation.name) } ". " (grant.kind.says()) "."
        }
        p { "Reason: “" (note) "”" }
        @if after < 0 {
            p.notice.bad role="alert" {
                "Only " (balance.available) " credits are available. An adjustment cannot take more."
            }
        } @else {
            p { "It has " (balance.available) " credits now, and will have "
                strong { (Credits(after)) } "." }
            @if takes && after == 0 { p.notice { "Its photos will wait until credits are added." } }
            p.faint { "Nobody can delete this: what was wrong is corrected by another adjustment." }
        }
    };
    let question = confirm::Question {
        title: if takes { "Take credits away?" } else { "Add credits?" },
        says,
        yes: (after >= 0).then_some(if takes { "Take them" } else { "Add them" }),
        action: &format!("/organisations/{id}/credits"),
        back: &format!("/organisations/{id}#credits"),
        here: "/organisations",
    };
    let fields = [
        ("kind", grant.kind.code().to_owned()),
        ("credits", grant.credits.0.to_string()),
        ("note", note.to_owned()),
        ("once", grant.once.clone()),
    ];
    Ok(question.page(&browser, &fields))
}

pub(in super::super) async fn book(
    State(service): State<Service>,
    Path(id): Path<OrganisationId>,
    form: Form<Grant>,
) -> Result<Redirect, Problem> {
    let (browser, grant) = (form.browser, form.fields);
    let note = grant.check()?;
    let key = format!("page-{}", grant.once.chars().take(64).collect::<String>());
    let addition = Addition {
        organisation: id,
        kind: grant.kind.top_up(),
        credits: grant.credits,
        note,
        idempotency_key: &key,
        price: None,
        twin: Twin::Waits,
    };
    let booked = service.commands.add_credits(&browser.caller, &addition).await?;
    let said = match (booked.credited, booked.resumed) {
        (false, _) => "booked_before",
        (true, true) => "resumed",
        (true, false) => "booked",
    };
    Ok(Redirect::to(&format!("/organisations/{id}?said={said}")))
}
