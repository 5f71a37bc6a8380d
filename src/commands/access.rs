//! Creates, changes and revokes access: people for the pages, tokens for programs.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{self, Caller, Denied, Hashed, Person, Role, Secret, audit_log},
    ids::{OrganisationId, PersonId, SessionId, TokenId},
};

pub(super) const MAY_ADMIT: &[Role] = &[Role::Organiser, Role::Staff];

/// A token to create for a program.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "upload pipeline", "role": "pipeline", "organisation": 1}))]
pub struct NewToken {
    /// What the token is for: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// The token's role: what it may do.
    pub role: Role,
    /// The only organisation that the token can see. Required for the roles `pipeline` and
    /// `organiser`.
    pub organisation: Option<OrganisationId>,
    /// The days for which the token is valid: 1 to 730; 365 if missing.
    #[schema(minimum = 1, maximum = 730)]
    pub expires_in_days: Option<i32>,
}

/// A token that was created.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedToken {
    /// The token's number.
    pub id: TokenId,
    /// The secret. It is shown only once, so keep it.
    pub secret: Secret,
}

/// The changes to a person. A value that is null or left out stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"disabled": true}))]
pub struct PersonChange {
    /// Whether the person is disabled, and so cannot log in.
    pub disabled: Option<bool>,
}

/// Checks that the caller may give this access, and returns the organisation that it is limited to.
/// No caller can give more access than the caller has.
pub(super) fn may_admit(
    caller: &Caller,
    role: Role,
    organisation: Option<OrganisationId>,
) -> Result<Option<OrganisationId>, CommandError> {
    caller.must_be(MAY_ADMIT)?;
    if let Some(organisation) = organisation {
        caller.must_see(organisation)?;
    }
    let theirs = [Role::Pipeline, Role::Organiser, Role::Finance];
    if caller.role != Role::Staff && !theirs.contains(&role) {
        return Err(Denied::Forbidden(
            "only staff can admit and revoke staff and operators".into(),
        )
        .into());
    }
    Ok(organisation.or(caller.organisation))
}

impl Commands {
    /// Creates a token. The result has its secret, which is stored nowhere.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn create_token(
        &self,
        caller: &Caller,
        new: &NewToken,
    ) -> Result<CreatedToken, CommandError> {
        let organisation = may_admit(caller, new.role, new.organisation)?;
        let mut tx = self.database.begin().await?;
        let (name, role, actor) = (&new.name, new.role, &caller.actor);
        let days = new.expires_in_days.unwrap_or(access::TOKEN_DAYS);
        access::must_still_be(&mut tx, caller).await?;
        let (id, secret) =
            access::create_token(&mut tx, name, role, organisation, days, actor).await?;
        let detail = json!({ "name": name, "role": role, "days": days });
        let subject = format!("token {id}");
        audit_log::record(&mut tx, caller, organisation, "token.create", &subject, detail).await?;
        tx.commit().await?;
        Ok(CreatedToken { id, secret })
    }

    /// Revokes a token, and ends the sessions that were started with it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn revoke_token(&self, caller: &Caller, token: TokenId) -> Result<(), CommandError> {
        caller.must_be(MAY_ADMIT)?;
        let mut tx = self.database.begin().await?;
        let (role, organisation) = access::revoke_token(&mut tx, token, caller.organisation)
            .await?
            .ok_or_else(|| CommandError::NotFound(format!("token {token}")))?;
        may_admit(caller, role, organisation)?;
        let subject = format!("token {token}");
        audit_log::record(&mut tx, caller, organisation, "token.revoke", &subject, json!({}))
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Sets a new password for the caller, who must know the present one. The caller's sessions end.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn change_own_password(
        &self,
        caller: &Caller,
        present: &str,
        new: &str,
    ) -> Result<(), CommandError> {
        let person = self.person_of(caller).await?;
        let wrong = || CommandError::invalid("present", "this is not your present password");
        let old = access::present_password(&self.database, person.id, present).await?;
        let old = old.ok_or_else(wrong)?;
        let password = Hashed::new(new, &person.email).await?;
        let mut tx = self.database.begin().await?;
        // It may have been changed meanwhile, by a link.
        if !access::set_password(&mut tx, person.id, &password, Some(&old)).await? {
            return Err(wrong());
        }
        let (whose, action) = (person.organisation, "person.password");
        audit_log::record(&mut tx, caller, whose, action, &person.email, json!({})).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Sets the time zone in which pages show times to the caller, as an IANA name. Empty: that of
    /// the organisation.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn set_own_time_zone(&self, caller: &Caller, zone: &str) -> Result<(), CommandError> {
        let person = self.person_of(caller).await?;
        let zone = Some(zone.trim()).filter(|zone| !zone.is_empty());
        let mut tx = self.database.begin().await?;
        if !access::set_time_zone(&mut tx, person.id, zone).await? {
            let why = "choose a time zone of the list, such as Europe/Berlin, or leave it empty";
            return Err(CommandError::invalid("time_zone", why));
        }
        let (whose, action) = (person.organisation, "person.time_zone");
        let detail = json!({ "time_zone": zone });
        audit_log::record(&mut tx, caller, whose, action, &person.email, detail).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Ends one session of the caller, or without a number all but the one that asks. `session` is
    /// the secret of the one that asks. Returns how many have ended.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn end_sessions(
        &self,
        caller: &Caller,
        session: &str,
        which: Option<SessionId>,
    ) -> Result<u64, CommandError> {
        let mut tx = self.database.begin().await?;
        let ended = access::end_sessions(&mut tx, session, which).await?;
        if let (0, Some(id)) = (ended, which) {
            return Err(CommandError::NotFound(format!("session {id}")));
        }
        let (whose, detail) = (caller.organisation, json!({ "sessions": ended }));
        audit_log::record(&mut tx, caller, whose, "session.end", &caller.actor, detail).await?;
        tx.commit().await?;
        tracing::info!(actor = ?caller.actor, ended, "sessions were ended by their owner");
        Ok(ended)
    }

    /// Disables or enables a person. The person's sessions end.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn change_person(
        &self,
        caller: &Caller,
        id: PersonId,
        change: &PersonChange,
    ) -> Result<Person, CommandError> {
        caller.must_be(MAY_ADMIT)?;
        let missing = || CommandError::NotFound(format!("person {id}"));
        let mut tx = self.database.begin().await?;
        access::must_still_be(&mut tx, caller).await?;
        let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
        if caller.organisation.is_some_and(|own| person.organisation != Some(own)) {
            return Err(missing());
        }
        may_admit(caller, person.role, person.organisation)?;
        if caller.role != Role::Staff && change.disabled == Some(false) {
            return Err(Denied::Forbidden("only staff can enable a person".into()).into());
        }
        if let Some(disabled) = change.disabled {
            access::disable_person(&mut tx, &person, disabled).await?;
        }
        let detail = json!({ "disabled": change.disabled });
        let (whose, action) = (person.organisation, "person.change");
        audit_log::record(&mut tx, caller, whose, action, &person.email, detail).await?;
        let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
        tx.commit().await?;
        Ok(person)
    }
}
