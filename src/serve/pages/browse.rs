//! Chooses the directory of the store whose photos are queued.

use axum::extract::State;
use maud::{Markup, html};
use serde::Deserialize;

use super::{Page, layout, upload};
use crate::{
    commands::{Browsed, Directory},
    ids::{EventId, Operation, Operations},
    serve::{
        Service,
        authentication::Browser,
        input::{Path, Query},
    },
};

#[derive(Debug, Deserialize)]
pub(super) struct Asked {
    /// The directory that is looked at; the organisation's part of the store if missing.
    r#in: Option<String>,
    #[serde(default)]
    after: String,
    operation: Option<Operations>,
}

pub(super) async fn page(
    State(service): State<Service>,
    mut browser: Browser,
    Path(id): Path<EventId>,
    Query(asked): Query<Asked>,
) -> Page {
    let (commands, store) = (&service.commands, &service.store);
    let here = asked.r#in.as_deref();
    let found = commands.browse(&browser.caller, id, store, here, &asked.after).await?;
    {
        let mut db = service.database.acquire().await?;
        browser.look_at(&mut db, found.event.organisation).await?;
    }
    let operation = asked.operation.unwrap_or(Operation::PhotoProcessing.into());
    let link = |path: &str, after: &str| {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("operation", operation.code()).append_pair("in", path);
        if !after.is_empty() {
            query.append_pair("after", after);
        }
        format!("/events/{id}/browse?{}", query.finish())
    };
    let content = html! {
        h1 { "Choose a directory" }
        p { "Photos for " a href={ "/events/" (id) } { (found.event.name) }
            ". Choosing queues nothing: the cost comes next." }
        (way(&found, &link))
        (choice(&found, operation))
        @if found.inside.is_empty() {
            p.faint { "There is no directory in this one." }
        } @else {
            div.scroll { table.directories {
                thead { tr { th { "Directory" } th.number { "Photos" } } }
                tbody { @for one in &found.inside { tr {
                    td { a href=(link(&one.path, "")) { (name(&one.path)) } }
                    td.number { (photos(one)) }
                } } }
            } }
        }
        div.row {
            @if let Some(next) = &found.next {
                a.button.quiet href=(link(&found.here.path, next)) { "More directories" }
            }
            (upload::link(id))
            a href={ "/events/" (id) } { "Back to the event" }
        }
    };
    Ok(layout::page(&browser, "/events", "Choose a directory", None, content))
}

/// The way to the directory, from the organisation's part of the store on.
fn way(found: &Browsed, link: &impl Fn(&str, &str) -> String) -> Markup {
    let below = found.here.path.strip_prefix(&found.under).unwrap_or_default();
    let mut path = found.under.clone();
    let parts = below.split_inclusive('/').map(|part| {
        path.push_str(part);
        (path.clone(), part.trim_end_matches('/'))
    });
    let root = if found.under.is_empty() { "Store" } else { found.under.trim_end_matches('/') };
    let parts: Vec<(String, &str)> =
        std::iter::once((found.under.clone(), root)).chain(parts).collect();
    html! {
        nav.way aria-label="Directory" { ol {
            @for (path, name) in &parts {
                @if *path == found.here.path {
                    li { span aria-current="page" { (name) } }
                } @else {
                    li { a href=(link(path, "")) { (name) } }
                }
            }
        } }
    }
}

/// The form that goes on with this directory.
fn choice(found: &Browsed, operation: Operations) -> Markup {
    let here = &found.here;
    let options = [
        (Operation::PhotoProcessing.code(), Operation::PhotoProcessing.name()),
        (Operation::AiRotation.code(), Operation::AiRotation.name()),
        (Operations::Both.code(), "Both: two credits a photo"),
    ];
    html! {
        @if here.photos == 0 && !here.more {
            p.notice { "There are no photos in this directory. Choose another one, or upload some." }
        } @else if here.path.is_empty() {
            p.faint { (photos(here)) " photos are in the store. Choose a directory." }
        } @else {
            form.filters.panel method="get" action={ "/events/" (found.event.id) "/run" } {
                input type="hidden" name="what" value="prefix";
                input type="hidden" name="prefix" value=(here.path);
                p.chosen { b { (photos(here)) } " photos in " code { (here.path) } " and below" }
                (layout::choice("Operation", "operation", &options, operation.code()))
                button type="submit" { "Show the cost" }
            }
        }
    }
}

/// How many photos a directory has, as far as they are counted.
fn photos(one: &Directory) -> String {
    if one.more { format!("{} or more", one.photos) } else { one.photos.to_string() }
}

/// The last name of a path.
fn name(path: &str) -> &str {
    path.trim_end_matches('/').rsplit('/').next().unwrap_or(path)
}
