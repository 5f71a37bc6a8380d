//! Links with which people choose a password: invitations, and links for a forgotten password.

use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::{
    CommandError, Commands,
    access::{MAY_ADMIT, may_admit},
};
use crate::{
    access::{self, AccessError, Caller, Denied, Hashed, Link, Role, audit_log},
    ids::{InvitationId, OrganisationId, PersonId},
};

/// A person to invite, who can then choose a password and log in to the pages.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "email": "anna@club.example",
    "role": "organiser",
    "organisation": 1
}))]
pub struct NewPerson {
    /// The e-mail address that the person logs in with.
    pub email: String,
    /// The person's role: what the person may do.
    pub role: Role,
    /// The only organisation that the person can see. Required for the role `organiser`.
    pub organisation: Option<OrganisationId>,
}

fn no_link() -> CommandError {
    let what = "invitation with this link that can still be used: a link works once, for 7 days. \
                Ask for a new one";
    CommandError::NotFound(what.into())
}

impl Commands {
    /// Makes a link with which a person can make an account. The answer is the same whether the
    /// address has an account in an organisation that the caller may not see, or not.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn invite(&self, caller: &Caller, new: &NewPerson) -> Result<Link, CommandError> {
        let organisation = may_admit(caller, new.role, new.organisation)?;
        if new.role == Role::Pipeline {
            let detail = "the role pipeline is only for programs: create a token instead";
            return Err(CommandError::invalid("/role", detail));
        }
        let email = new.email.trim().to_lowercase();
        let mut tx = self.database.begin().await?;
        access::must_still_be(&mut tx, caller).await?;
        let (role, seen) = (new.role, caller.organisation);
        let link = access::invite(&mut tx, &email, role, organisation, seen, &caller.actor).await?;
        let detail = json!({ "role": role, "invitation": link.id });
        audit_log::record(&mut tx, caller, organisation, "person.invite", &email, detail).await?;
        tx.commit().await?;
        Ok(link)
    }

    /// Makes a link with which a person can choose a new password. Only staff can: whoever has the
    /// link can log in as this person.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn password_link(&self, caller: &Caller, id: PersonId) -> Result<Link, CommandError> {
        caller.must_be(MAY_ADMIT)?;
        let missing = || CommandError::NotFound(format!("person {id}"));
        let mut tx = self.database.begin().await?;
        access::must_still_be(&mut tx, caller).await?;
        let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
        if caller.organisation.is_some_and(|own| person.organisation != Some(own)) {
            return Err(missing());
        }
        if caller.role != Role::Staff {
            let detail = "only staff can make a link for the password of another person";
            return Err(Denied::Forbidden(detail.into()).into());
        }
        if person.email == caller.actor {
            let detail = "change your own password on /account, or ask somebody else of the staff: \
                          whoever has your session must not keep you out";
            return Err(Denied::Forbidden(detail.into()).into());
        }
        if person.disabled_at.is_some() {
            let detail = format!("{} is disabled: enable the account first", person.email);
            return Err(CommandError::Conflict { code: "disabled", detail });
        }
        let link = access::password_link(&mut tx, &person, &caller.actor).await?;
        let (whose, detail) = (person.organisation, json!({ "invitation": link.id }));
        let action = "person.password_link";
        audit_log::record(&mut tx, caller, whose, action, &person.email, detail).await?;
        tx.commit().await?;
        Ok(link)
    }

    /// Withdraws a link that was not used yet.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn withdraw_invitation(
        &self,
        caller: &Caller,
        id: InvitationId,
    ) -> Result<(), CommandError> {
        caller.must_be(MAY_ADMIT)?;
        let mut tx = self.database.begin().await?;
        let found = access::withdraw_invitation(&mut tx, id, caller.organisation)
            .await?
            .ok_or_else(|| CommandError::NotFound(format!("invitation {id}")))?;
        may_admit(caller, found.role, found.organisation)?;
        let (whose, detail) = (found.organisation, json!({ "invitation": id }));
        let action = "person.withdraw";
        audit_log::record(&mut tx, caller, whose, action, &found.email, detail).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Uses a link: makes the account with this password, or sets it as the new password. Whoever
    /// has the secret of the link may.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn use_invitation(&self, secret: &str, password: &str) -> Result<(), CommandError> {
        let found = {
            let mut db = self.database.acquire().await?;
            access::find_invitation(&mut db, secret).await?.ok_or_else(no_link)?
        };
        let hashed = Hashed::new(password, &found.email).await?;
        let mut tx = self.database.begin().await?;
        let found = access::use_invitation(&mut tx, found.id).await?.ok_or_else(no_link)?;
        let (email, whose) = (&found.email, found.organisation);
        let caller = Caller { actor: email.clone(), role: found.role, organisation: whose };
        let mut detail = json!({ "invitation": found.id, "by": found.created_by });
        let action = if let Some(person) = found.person {
            access::set_password(&mut tx, person, &hashed, None).await?;
            "person.password"
        } else {
            let made = access::create_person(&mut tx, email, &hashed, found.role, whose).await;
            if matches!(made, Err(AccessError::Known(_))) {
                let detail = "this address has an account already: log in, or ask staff".to_owned();
                return Err(CommandError::Conflict { code: "known", detail });
            }
            made?;
            detail["role"] = json!(found.role);
            "person.create"
        };
        audit_log::record(&mut tx, &caller, whose, action, email, detail).await?;
        tx.commit().await?;
        Ok(())
    }
}
