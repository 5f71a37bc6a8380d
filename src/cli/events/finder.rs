//! `photogate events finder`: the page of an event for athletes.

use std::io::{self, Write};

use super::Output;
use crate::{
    access::Caller,
    catalog::finders::{Finder, FinderAccess},
    commands::FinderChange,
    config::Config,
    ids::EventId,
};

/// Shows the finder of an event, or changes it: who can open it, or its link.
pub(super) async fn show_or_set(
    event: EventId,
    access: Option<FinderAccess>,
    replace_link: bool,
    actor: &str,
    config: &Config,
    output: Output,
) -> anyhow::Result<()> {
    let (commands, caller) = (crate::cli::commands(config).await?, Caller::trusted(actor));
    let finder = commands.finder(&caller, event).await?;
    let finder = match access {
        None if !replace_link => finder,
        None if finder.access == FinderAccess::Off => {
            anyhow::bail!("the page is off and has no link: name `link` or `public` too")
        }
        access => {
            let access = access.unwrap_or(finder.access);
            let change = FinderChange { access, replace_link };
            commands.set_finder(&caller, event, change).await?
        }
    };
    let here = config.public_url.as_deref().unwrap_or_default().trim_end_matches('/');
    output.one(&finder, |out| say(out, here, event, &finder))?;
    Ok(())
}

fn say(out: &mut dyn Write, here: &str, event: EventId, finder: &Finder) -> io::Result<()> {
    match finder.access {
        FinderAccess::Off => writeln!(out, "The page for athletes of event {event} is off.")?,
        FinderAccess::Link => {
            writeln!(
                out,
                "The page for athletes of event {event} is open to whoever has its link."
            )?;
        }
        FinderAccess::Public => {
            writeln!(out, "The page for athletes of event {event} is open to everybody.")?;
        }
    }
    for (name, path) in [("Address", &finder.public), ("Link", &finder.link)] {
        if let Some(path) = path {
            writeln!(out, "{name}: {here}{path}")?;
        }
    }
    Ok(())
}
