//! The second factor of people: to set it up, to log in with it, and to reset it.

use serde_json::json;

use super::{CommandError, Commands};
use crate::{
    access::{self, Caller, Denied, Person, Proof, Role, Secret, audit_log},
    ids::PersonId,
};

impl Commands {
    /// Begins to set up the caller's second factor, for this session. The caller must know the
    /// password: somebody else may sit at this browser, and would keep the owner out.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn begin_second_factor(
        &self,
        caller: &Caller,
        session: &str,
        present: &str,
    ) -> Result<(), CommandError> {
        let person = self.person_of(caller).await?;
        if access::present_password(&self.database, person.id, present).await?.is_none() {
            return Err(CommandError::invalid("present", "this is not your present password"));
        }
        let mut tx = self.database.begin().await?;
        if access::begin_second_factor(&mut tx, person.id, session).await? {
            let (whose, action) = (person.organisation, "person.second_factor_begin");
            audit_log::record(&mut tx, caller, whose, action, &person.email, json!({})).await?;
            tx.commit().await?;
            return Ok(());
        }
        let detail = "your second factor is set up already: ask staff to reset it".to_owned();
        Err(CommandError::Conflict { code: "second_factor_known", detail })
    }

    /// Confirms the caller's second factor with a first code. Returns the recovery codes, which are
    /// shown once. The caller's other sessions end.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn confirm_second_factor(
        &self,
        caller: &Caller,
        session: &str,
        code: &str,
    ) -> Result<Vec<Secret>, CommandError> {
        let person = self.person_of(caller).await?;
        let mut tx = self.database.begin().await?;
        let codes = access::confirm_second_factor(&mut tx, person.id, code, session).await?;
        let Some(codes) = codes else {
            let detail = "this is not the code that the app shows now: look at the time of your \
                          phone, and enter the next code";
            return Err(CommandError::invalid("code", detail));
        };
        let (whose, action) = (person.organisation, "person.second_factor");
        audit_log::record(&mut tx, caller, whose, action, &person.email, json!({})).await?;
        tx.commit().await?;
        Ok(codes)
    }

    /// Ends a login with its second step: a code of the app, or a recovery code. `session` is the
    /// secret of the session that waits for it. Returns the new secret of the session: what was
    /// copied before the code is worth nothing. `None`: the code is wrong, or was used before.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn enter_code(
        &self,
        caller: &Caller,
        session: &str,
        code: &str,
    ) -> Result<Option<Secret>, CommandError> {
        let person = self.person_of(caller).await?;
        let mut tx = self.database.begin().await?;
        let proof = access::use_code(&mut tx, person.id, code).await?;
        let left = match proof {
            None => return Ok(None),
            Some(Proof::Code) => None,
            Some(Proof::RecoveryCode { left }) => Some(left),
        };
        let session = access::prove_session(&mut tx, session, person.id).await?;
        if let Some(left) = left {
            let (whose, detail) = (person.organisation, json!({ "left": left }));
            let action = "person.recovery_code";
            audit_log::record(&mut tx, caller, whose, action, &person.email, detail).await?;
            tracing::warn!(actor = ?caller.actor, left, "a recovery code was used");
        }
        tx.commit().await?;
        Ok(session)
    }

    /// Removes the second factor of a person who has lost it. The person's sessions end.
    ///
    /// # Errors
    /// See [`CommandError`].
    pub async fn reset_second_factor(
        &self,
        caller: &Caller,
        id: PersonId,
    ) -> Result<(), CommandError> {
        caller.must_be(&[Role::Staff])?;
        let missing = || CommandError::NotFound(format!("person {id} with a second factor"));
        let mut tx = self.database.begin().await?;
        let person = access::find_person(&mut tx, &id.to_string()).await?.ok_or_else(missing)?;
        if person.email == caller.actor {
            let detail = "somebody else of the staff must reset your second factor: whoever has your \
                          session must not keep you out";
            return Err(Denied::Forbidden(detail.into()).into());
        }
        if !access::remove_second_factor(&mut tx, id).await? {
            return Err(missing());
        }
        let (whose, action) = (person.organisation, "person.second_factor_reset");
        audit_log::record(&mut tx, caller, whose, action, &person.email, json!({})).await?;
        tx.commit().await?;
        Ok(())
    }

    /// The person who calls. A token is none.
    pub(super) async fn person_of(&self, caller: &Caller) -> Result<Person, CommandError> {
        let mut db = self.database.acquire().await?;
        let person = access::find_person(&mut db, &caller.actor).await?;
        person.filter(|person| person.email == caller.actor).ok_or_else(|| {
            Denied::Forbidden("a token has no password and no second factor".into()).into()
        })
    }
}
