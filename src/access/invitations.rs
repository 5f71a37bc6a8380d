//! Invitations: links with which people choose a password of their own, so that nobody else knows
//! it. A link works once, and only its hash is stored. A link that was used or withdrawn has no row
//! any more; the audit log says what became of it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use sqlx::PgConnection;
use utoipa::ToSchema;

use super::{
    AccessError, Person, Role, Secret, alone, hash,
    people::{PEOPLE_MAX, address},
};
use crate::ids::{InvitationId, OrganisationId, PersonId};

/// The days for which a link works.
const DAYS: i32 = 7;

/// A link that was not used yet, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Invitation {
    /// The number of the invitation.
    pub id: InvitationId,
    /// The e-mail address that the person logs in with.
    pub email: String,
    /// The role of the person.
    pub role: Role,
    /// The only organisation that the person sees; `None`: all organisations.
    pub organisation: Option<OrganisationId>,
    /// The person who chooses a new password with the link. `None`: the link makes a new account.
    pub person: Option<PersonId>,
    /// Who made the link: an e-mail address, or the name of a token.
    pub created_by: String,
    /// The time when the link was made.
    pub created_at: DateTime<Utc>,
    /// The time from which the link does not work any more.
    pub expires_at: DateTime<Utc>,
}

/// A link that was just made.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = PasswordLink)]
pub struct Link {
    /// The number of the invitation.
    pub id: InvitationId,
    /// The path of the link: the address of the service comes before it. It is in this answer only.
    /// Whoever has the link can use it, so hand it to nobody but the person.
    #[schema(value_type = String)]
    pub link: Secret,
    /// The time from which the link does not work any more.
    pub expires_at: DateTime<Utc>,
}

/// Makes a link with which somebody can make an account. It takes the place of an earlier one for
/// the same address and organisation. `seen_by` is the only organisation whose people the inviter
/// may know of: accounts elsewhere make no difference here, but when the link is used. `tx` must be
/// a transaction.
///
/// # Errors
/// See [`AccessError`].
pub async fn invite(
    tx: &mut PgConnection,
    email: &str,
    role: Role,
    organisation: Option<OrganisationId>,
    seen_by: Option<OrganisationId>,
    actor: &str,
) -> Result<Link, AccessError> {
    let email = address(email)?;
    let of = organisation.map(|organisation| organisation.0);
    let known = sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM person WHERE email = $1
                          AND ($2::bigint IS NULL OR organisation_id = $2)) AS "known!""#,
        email,
        seen_by.map(|organisation| organisation.0)
    );
    if known.fetch_one(&mut *tx).await? {
        return Err(AccessError::Known(email));
    }
    if let Some(organisation) = organisation {
        alone(&mut *tx, organisation).await?;
    }
    // Not one that staff made for an operator: who cannot make such a link does not end one.
    sqlx::query!(
        "DELETE FROM invitation
         WHERE email = $1 AND organisation_id IS NOT DISTINCT FROM $2 AND person_id IS NULL
           AND ($3 OR role IN ('organiser', 'finance'))",
        email,
        of,
        seen_by.is_none()
    )
    .execute(&mut *tx)
    .await?;
    if let Some(organisation) = organisation {
        let people = sqlx::query_scalar!(
            r#"SELECT (SELECT count(*) FROM person
                       WHERE organisation_id = $1 AND disabled_at IS NULL)
                    + (SELECT count(*) FROM invitation
                       WHERE organisation_id = $1 AND person_id IS NULL
                         AND expires_at > now()) AS "people!""#,
            organisation.0
        );
        if people.fetch_one(&mut *tx).await? >= PEOPLE_MAX {
            return Err(AccessError::TooManyPeople(organisation));
        }
    }
    link(tx, &email, role, of, None, actor)
        .await
        .map_err(|error| AccessError::from(error, role, organisation))
}

/// Makes a link with which this person can choose a new password. Earlier ones do not work any
/// more. `tx` must be a transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn password_link(
    tx: &mut PgConnection,
    person: &Person,
    actor: &str,
) -> sqlx::Result<Link> {
    withdraw_password_links(&mut *tx, person.id).await?;
    let of = person.organisation.map(|organisation| organisation.0);
    link(tx, &person.email, person.role, of, Some(person.id), actor).await
}

async fn link(
    tx: &mut PgConnection,
    email: &str,
    role: Role,
    organisation: Option<i64>,
    person: Option<PersonId>,
    actor: &str,
) -> sqlx::Result<Link> {
    sqlx::query!(
        "DELETE FROM invitation WHERE invitation_id IN (
             SELECT invitation_id FROM invitation WHERE expires_at < now()
             LIMIT 100 FOR UPDATE SKIP LOCKED)"
    )
    .execute(&mut *tx)
    .await?;
    let secret = Secret::new("");
    let made = sqlx::query!(
        r#"INSERT INTO invitation
               (hash, email, role, organisation_id, person_id, created_by, expires_at)
           VALUES ($1, $2, $3, $4, $5, $6, now() + make_interval(days => $7))
           RETURNING invitation_id AS "id: InvitationId", expires_at"#,
        hash(&secret.0),
        email,
        role as Role,
        organisation,
        person.map(|person| person.0),
        actor,
        DAYS
    )
    .fetch_one(tx)
    .await?;
    let link = Secret(format!("/invitation/{}", secret.0));
    Ok(Link { id: made.id, link, expires_at: made.expires_at })
}

/// Lists the links of one organisation, or of all, that can still be used, newest first. Only those
/// with numbers below `below` are listed, at most `most`.
///
/// # Errors
/// When the database has trouble.
pub async fn invitations(
    db: &mut PgConnection,
    organisation: Option<OrganisationId>,
    below: Option<i64>,
    most: i64,
) -> sqlx::Result<Vec<Invitation>> {
    sqlx::query_as!(
        Invitation,
        r#"SELECT invitation_id AS "id: _", email, role AS "role: _",
                  organisation_id AS "organisation: _", person_id AS "person: _", created_by,
                  created_at, expires_at
           FROM invitation
           WHERE ($1::bigint IS NULL OR organisation_id = $1) AND invitation_id < $2
             AND expires_at > now()
           ORDER BY invitation_id DESC LIMIT $3"#,
        organisation.map(|organisation| organisation.0),
        below.unwrap_or(i64::MAX),
        most
    )
    .fetch_all(db)
    .await
}

/// Finds a link that can still be used, by its secret.
///
/// # Errors
/// When the database has trouble.
pub async fn find_invitation(
    db: &mut PgConnection,
    secret: &str,
) -> sqlx::Result<Option<Invitation>> {
    sqlx::query_as!(
        Invitation,
        r#"SELECT invitation_id AS "id: _", email, role AS "role: _",
                  organisation_id AS "organisation: _", person_id AS "person: _", created_by,
                  created_at, expires_at
           FROM invitation WHERE hash = $1 AND expires_at > now()"#,
        hash(secret)
    )
    .fetch_optional(db)
    .await
}

/// Uses a link, so that it cannot be used again. `None`: it cannot be used any more. `tx` must be
/// the transaction of what it is used for.
///
/// # Errors
/// When the database has trouble.
pub async fn use_invitation(
    tx: &mut PgConnection,
    id: InvitationId,
) -> sqlx::Result<Option<Invitation>> {
    sqlx::query_as!(
        Invitation,
        r#"DELETE FROM invitation WHERE invitation_id = $1 AND expires_at > now()
           RETURNING invitation_id AS "id: _", email, role AS "role: _",
                     organisation_id AS "organisation: _", person_id AS "person: _", created_by,
                     created_at, expires_at"#,
        id.0
    )
    .fetch_optional(tx)
    .await
}

/// Withdraws a link. `None`: `organisation` has no such link that can still be used.
///
/// # Errors
/// When the database has trouble.
pub async fn withdraw_invitation(
    tx: &mut PgConnection,
    id: InvitationId,
    organisation: Option<OrganisationId>,
) -> sqlx::Result<Option<Invitation>> {
    let found = use_invitation(tx, id).await?;
    Ok(found.filter(|found| organisation.is_none_or(|own| found.organisation == Some(own))))
}

/// Withdraws all links that this person or token has made: whoever has lost access must not come
/// back by a link of their own.
///
/// # Errors
/// When the database has trouble.
pub(super) async fn withdraw_links_by(tx: &mut PgConnection, actor: &str) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM invitation WHERE created_by = $1", actor)
        .execute(tx)
        .await
        .map(|_| ())
}

/// Withdraws the links with which a person can choose a new password.
///
/// # Errors
/// When the database has trouble.
pub(super) async fn withdraw_password_links(
    tx: &mut PgConnection,
    person: PersonId,
) -> sqlx::Result<()> {
    sqlx::query!("DELETE FROM invitation WHERE person_id = $1", person.0)
        .execute(tx)
        .await
        .map(|_| ())
}
