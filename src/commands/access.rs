//! People get accounts, programs get tokens.

use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{CommandError, Commands};
use crate::{
    access::{self, Caller, Denied, Person, Role, Secret, audit_log},
    ids::{OrganisationId, PersonId, TokenId},
};

pub(super) const MAY_ADMIT: &[Role] = &[Role::Organiser, Role::Staff];

/// A token to create.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"name": "upload pipeline", "role": "pipeline", "organisation": 1}))]
pub struct NewToken {
    /// What it is for: 1 to 100 characters.
    #[schema(min_length = 1, max_length = 100)]
    pub name: String,
    /// What it may do.
    pub role: Role,
    /// The only organisation it sees; pipelines and organisers must have one.
    pub organisation: Option<OrganisationId>,
}

/// A token that was created.
#[derive(Debug, Serialize, ToSchema)]
pub struct CreatedToken {
    /// Its number.
    pub id: TokenId,
    /// Shown once: keep it.
    pub secret: Secret,
}

/// Somebody who shall log in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"email": "anna@club.example", "password": "correct horse battery", "role": "organiser", "organisation": 1}))]
pub struct NewPerson {
    /// They log in with it.
    pub email: String,
    /// 12 to 200 characters.
    #[schema(min_length = 12, max_length = 200)]
    pub password: String,
    /// What they may do.
    pub role: Role,
    /// The only organisation they see; organisers must have one.
    pub organisation: Option<OrganisationId>,
}

/// What changes about somebody; null stays as it is.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({"disabled": true}))]
pub struct PersonChange {
    /// Whether they are kept from logging in.
    pub disabled: Option<bool>,
    /// 12 to 200 characters.
    #[schema(min_length = 12, max_length = 200)]
    pub password: Option<String>,
}

/// Nobody gives away more than they have.
fn may_admit(
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
        return Err(Denied::Forbidden("only staff admits staff and operators".into()).into());
    }
    Ok(organisation.or(caller.organisation))
}

impl Commands {
    /// Creates a token. Its secret is in the answer, and nowhere else.
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
        let (id, secret) =
            access::create_token(&mut tx, &new.name, new.role, organisation, &caller.actor).await?;
        let detail = json!({ "name": new.name, "role": new.role });
        let subject = format!("token {id}");
        audit_log::record(&mut tx, caller, organisation, "token.create", &subject, detail).await?;
        tx.commit().await?;
        Ok(CreatedToken { id, secret })
    }

    /// Revokes a token, and ends the sessions that were begun with it.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn revoke_token(&self, caller: &Caller, token: TokenId) -> Result<(), CommandError> {
        caller.must_be(MAY_ADMIT)?;
        let mut tx = self.database.begin().await?;
        let organisation = access::revoke_token(&mut tx, token, caller.organisation)
            .await?
            .ok_or_else(|| CommandError::NotFound(format!("token {token}")))?;
        let subject = format!("token {token}");
        audit_log::record(&mut tx, caller, organisation, "token.revoke", &subject, json!({}))
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Gives somebody an account for the pages.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn create_person(
        &self,
        caller: &Caller,
        new: &NewPerson,
    ) -> Result<(), CommandError> {
        let organisation = may_admit(caller, new.role, new.organisation)?;
        if new.role == Role::Pipeline {
            let detail = "a pipeline is a program: create a token for it";
            return Err(CommandError::invalid("/role", detail));
        }
        let mut tx = self.database.begin().await?;
        access::create_person(&mut tx, &new.email, &new.password, new.role, organisation).await?;
        let detail = json!({ "role": new.role });
        audit_log::record(&mut tx, caller, organisation, "person.create", &new.email, detail)
            .await?;
        tx.commit().await?;
        Ok(())
    }

    /// Keeps somebody from logging in, lets them in again, or gives them another password. Their sessions end.
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
        let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
        if caller.organisation.is_some_and(|own| person.organisation != Some(own)) {
            return Err(missing());
        }
        may_admit(caller, person.role, person.organisation)?;
        // Whoever sets a password can log in with it, as somebody else.
        if caller.role != Role::Staff
            && (change.password.is_some() || change.disabled == Some(false))
        {
            let detail = "only staff sets passwords of others, or lets somebody in again";
            return Err(Denied::Forbidden(detail.into()).into());
        }
        if let Some(password) = &change.password {
            access::set_password(&mut tx, id, password).await?;
        }
        if let Some(disabled) = change.disabled {
            access::disable_person(&mut tx, id, disabled).await?;
        }
        let password = change.password.as_ref().map(|_| "changed");
        let detail = json!({ "disabled": change.disabled, "password": password });
        let (whose, action) = (person.organisation, "person.change");
        audit_log::record(&mut tx, caller, whose, action, &person.email, detail).await?;
        let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
        tx.commit().await?;
        Ok(person)
    }
}
