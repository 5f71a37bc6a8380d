//! Letters: a mail as it is read, plain and as HTML, with the same words.

use maud::{DOCTYPE, Markup, html};
use sha2::{Digest, Sha256};

use super::{
    mailboxes::{Due, Told, Topic},
    sentences::{headline, tame, when},
};

/// A mail, before it is put into its envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The address that it goes to.
    pub to: String,
    /// The subject line.
    pub subject: String,
    /// The words.
    pub text: String,
    /// The same as HTML.
    pub html: String,
    /// Where its reader ends it with one click.
    pub unsubscribe: Option<String>,
}

impl Letter {
    /// The mail that is due. `pages` is the address of the pages.
    pub fn of(due: &Due, pages: &str) -> Self {
        match &due.confirm {
            Some(ticket) => question(due, &format!("{pages}/mail/{}/confirm", ticket.shown())),
            None => news(due, pages),
        }
    }

    /// A mail that only shows that mail arrives.
    pub fn test(to: &str, pages: &str) -> Self {
        // Each has words of its own, and so an ID: a mail program drops a mail that it knows.
        let number = rand::random::<u32>();
        let said = format!(
            "photogate can send e-mail with these settings. Nobody needs to answer. This is test \
             {number:08x}."
        );
        Self {
            to: to.to_owned(),
            subject: "[photogate] A test".into(),
            text: format!("{said}\n\n{pages}\n"),
            html: whole(html! { p { (said) } p { a href=(pages) { (pages) } } }),
            unsubscribe: None,
        }
    }

    /// The same for the same words to the same address, so that a mail that comes twice is known.
    pub fn id(&self) -> String {
        let words = format!("{}\n{}\n{}", self.to, self.subject, self.text);
        hex::encode(&Sha256::digest(words)[..16])
    }
}

fn organisation(due: &Due) -> String {
    match due.organisation.as_deref() {
        Some(_) if due.is_bare => "your organisation".into(),
        Some(name) => tame(name),
        None => "photogate".into(),
    }
}

/// How a subject line begins.
fn head(due: &Due) -> String {
    let name = if due.is_bare { "photogate".into() } else { organisation(due) };
    format!("[{name}]")
}

fn whole(content: Markup) -> String {
    // No colours of text and background: the reader's program knows whether it is dark.
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="supported-color-schemes" content="light dark";
            }
            body style="font-family: system-ui, sans-serif; font-size: 16px; line-height: 1.5; max-width: 40em; \
                        margin: 0 auto; padding: 16px" { (content) }
        }
    };
    page.into_string()
}

/// Asks the owner of an address whether they want what somebody has set.
fn question(due: &Due, link: &str) -> Letter {
    let name = organisation(due);
    let asks = match &due.set_by {
        Some(person) if !due.is_bare => {
            format!("{} wants photogate to send you e-mail about {name}:", tame(person))
        }
        _ => format!("Somebody of {name} wants photogate to send you e-mail about it:"),
    };
    let ends = "The link works for 7 days. If you do not want this, do nothing: no more is sent.";
    let topics: Vec<_> = due.topics.iter().map(|topic| topic.says()).collect();
    let text =
        format!("{asks}\n\n- {}\n\nIf you want it:\n{link}\n\n{ends}\n", topics.join("\n- "));
    let html = whole(html! {
        p { (asks) }
        ul { @for topic in &topics { li { (topic) } } }
        p { a href=(link) { "Yes, send me these" } }
        p { small { (ends) } }
    });
    let subject = format!("{} Do you want e-mail from photogate?", head(due));
    Letter { to: due.email.clone(), subject, text, html, unsubscribe: None }
}

/// Says all that waits.
fn news(due: &Due, pages: &str) -> Letter {
    let name = organisation(due);
    let others = i64::try_from(due.changes.len()).unwrap_or(i64::MAX) - 1 + due.more;
    let says = |one: &Told| if due.is_bare { one.bare() } else { one.sentence() };
    let headline = headline(&due.changes).map(says).unwrap_or_default();
    let and = if others > 0 { format!(" (and {others} more)") } else { String::new() };
    let subject = format!("{} {headline}{and}", head(due));
    let lines: Vec<_> = due
        .changes
        .iter()
        .map(|one| {
            let (at, page) = (when(one.at, &due.zone), format!("{pages}{}", one.page()));
            (at, format!("{}.", says(one)), page)
        })
        .collect();
    let more = (due.more > 0).then(|| format!("And {} more, on the pages:", due.more));
    let skipped = (due.skipped > 0).then(|| {
        let (s, are) = if due.skipped == 1 { ("", "is") } else { ("s", "are") };
        format!(
            "{} older change{s} of the organisation {are} not kept any more: this mail does not say \
             what happened then.",
            due.skipped
        )
    });
    let bare = due.is_bare.then_some(
        "The mail server refused the last mail because of its words. So this one says no names.",
    );
    let essential = due.topics.iter().all(|topic| Topic::ESSENTIAL.contains(topic));
    let settings = format!("{pages}/account/mail");
    let link = format!("{pages}/mail/{}/unsubscribe", due.unsubscribe.shown());
    let why = if essential {
        format!(
            "You get this although you may have unsubscribed, because money waits for somebody. You, \
             an organiser of {name} or the staff of photogate can end it on the page of your \
             account, or on the page People."
        )
    } else {
        match &due.set_by {
            Some(person) if *person == due.email => "You get this because you chose it.".into(),
            Some(person) if !due.is_bare => {
                format!("You get this because {} has set it for you.", tame(person))
            }
            _ => {
                let of = due.organisation.as_ref().map(|_| format!(" of {name}, or"));
                let of = of.unwrap_or_default();
                format!(
                    "You get this because somebody{of} of the staff of photogate has set it for you."
                )
            }
        }
    };
    let mut parts = vec![format!("What happened at {name}:")];
    parts.extend(lines.iter().map(|(at, sentence, page)| format!("- {at}: {sentence}\n  {page}")));
    parts.extend(more.iter().map(|more| format!("{more}\n{pages}/")));
    parts.extend(skipped.clone());
    parts.extend(bare.map(str::to_owned));
    let end = if essential { String::new() } else { format!("Unsubscribe: {link}\n") };
    parts.push(format!("-- \n{why}\nChange it: {settings}\n{end}"));
    let text = parts.join("\n\n");
    let html = whole(html! {
        p { "What happened at " strong { (name) } ":" }
        ul { @for (at, sentence, page) in &lines {
            li style="margin: 0 0 8px" { a href=(page) { (sentence) } br; small { (at) } }
        } }
        @if let Some(more) = &more { p { (more) " " a href={ (pages) "/" } { (pages) "/" } } }
        @if let Some(skipped) = &skipped { p { (skipped) } }
        @if let Some(bare) = bare { p { (bare) } }
        hr;
        p { small {
            (why) " " a href=(settings) { "Change it" }
            @if !essential { " · " a href=(link) { "Unsubscribe" } }
        } }
    });
    let unsubscribe = (!essential).then_some(link);
    Letter { to: due.email.clone(), subject, text, html, unsubscribe }
}
