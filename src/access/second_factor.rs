//! The second factor: a code of six digits that an app on the person's phone computes (TOTP, RFC
//! 6238), and codes on paper for the day when the phone is lost.

use chrono::Utc;
use rand::TryRngCore;
use sqlx::PgConnection;
use totp_rs::{Builder, Totp};

use super::{Role, Secret, hash};
use crate::ids::PersonId;

/// The roles that need a second factor, if the setting `second_factor_required` says so: what they
/// see and change is not one organisation's only.
pub const NEED_SECOND_FACTOR: &[Role] = &[Role::Operator, Role::Finance, Role::Staff];
/// Number of recovery codes.
const RECOVERY_CODES: usize = 10;
/// The time for which a code is shown, in seconds. Apps know no other.
const STEP: u64 = 30;
/// So many minutes after it was begun, a second factor can be confirmed.
const SETUP_MINUTES: i32 = 10;
/// The bits of a secret, as RFC 4226 recommends it: 160.
type Shared = [u8; 20];

/// The state of a person's second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecondFactor {
    /// There is none.
    None,
    /// Its secret was shown, and no code has confirmed yet that it arrived.
    Begun,
    /// Logging in needs a code.
    Confirmed,
}

/// The secret of a second factor as text, to type it into an app, and as an address, for a QR code.
#[derive(Debug)]
pub struct Setup {
    /// In base 32.
    pub secret: Secret,
    /// The address `otpauth://totp/…`.
    pub address: Secret,
}

fn totp(secret: &[u8]) -> Totp {
    // The default is what all apps know: SHA-1, six digits, 30 seconds, and one step before or after.
    Builder::new().with_secret(secret).with_step_duration(STEP).with_skew(1).build_noncompliant()
}

/// The state of a person's second factor. One that another session has begun, or this one long ago,
/// is none: it could be somebody else's.
///
/// # Errors
/// When the database has trouble.
pub async fn second_factor(
    db: &mut PgConnection,
    person: PersonId,
    session: &str,
) -> sqlx::Result<SecondFactor> {
    let found = sqlx::query_scalar!(
        r#"SELECT confirmed_at IS NOT NULL AS "confirmed!" FROM second_factor
           WHERE person_id = $1
             AND (confirmed_at IS NOT NULL
                  OR session_hash = $2 AND begun_at > now() - make_interval(mins => $3))"#,
        person.0,
        hash(session),
        SETUP_MINUTES
    );
    Ok(match found.fetch_optional(db).await? {
        None => SecondFactor::None,
        Some(false) => SecondFactor::Begun,
        Some(true) => SecondFactor::Confirmed,
    })
}

/// Begins to set up a person's second factor, with a new secret. False: it is set up already.
///
/// # Errors
/// When the database has trouble.
pub async fn begin_second_factor(
    db: &mut PgConnection,
    person: PersonId,
    session: &str,
) -> sqlx::Result<bool> {
    let mut secret = Shared::default();
    random(&mut secret);
    let begun = sqlx::query!(
        "INSERT INTO second_factor AS s (person_id, secret, session_hash) VALUES ($1, $2, $3)
         ON CONFLICT (person_id) DO UPDATE SET secret = excluded.secret,
             session_hash = excluded.session_hash, begun_at = clock_timestamp()
         WHERE s.confirmed_at IS NULL",
        person.0,
        &secret,
        hash(session)
    );
    Ok(begun.execute(db).await?.rows_affected() == 1)
}

/// The secret of a second factor that is not confirmed yet. Afterwards nobody sees it again.
///
/// # Errors
/// When the database has trouble.
pub async fn setup(
    db: &mut PgConnection,
    person: PersonId,
    email: &str,
    session: &str,
) -> sqlx::Result<Option<Setup>> {
    let found = sqlx::query_scalar!(
        "SELECT secret FROM second_factor
         WHERE person_id = $1 AND confirmed_at IS NULL AND session_hash = $2
           AND begun_at > now() - make_interval(mins => $3)",
        person.0,
        hash(session),
        SETUP_MINUTES
    );
    let Some(found) = found.fetch_optional(db).await? else { return Ok(None) };
    let secret = totp_rs::Secret::from(found.as_slice()).to_base32();
    let label: String = url::form_urlencoded::byte_serialize(email.as_bytes()).collect();
    let address = format!("otpauth://totp/photogate:{label}?secret={secret}&issuer=photogate");
    Ok(Some(Setup { secret: Secret(secret), address: Secret(address) }))
}

/// Confirms a second factor with a first code, and returns its recovery codes. They are shown once;
/// only their hashes are kept. `None`: the code is wrong, or there is nothing to confirm. The
/// person's other sessions end: `session` is the secret of the one that stays. `tx` must be a
/// transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn confirm_second_factor(
    tx: &mut PgConnection,
    person: PersonId,
    code: &str,
    session: &str,
) -> sqlx::Result<Option<Vec<Secret>>> {
    // A login that begins meanwhile waits, and then asks for a code.
    sqlx::query!("SELECT FROM person WHERE person_id = $1 FOR NO KEY UPDATE", person.0)
        .execute(&mut *tx)
        .await?;
    let found = sqlx::query_scalar!(
        "SELECT secret FROM second_factor
         WHERE person_id = $1 AND confirmed_at IS NULL AND session_hash = $2
           AND begun_at > now() - make_interval(mins => $3) FOR UPDATE",
        person.0,
        hash(session),
        SETUP_MINUTES
    );
    let Some(secret) = found.fetch_optional(&mut *tx).await? else { return Ok(None) };
    let Some(step) = step_of(&secret, code) else { return Ok(None) };
    sqlx::query!(
        "UPDATE second_factor SET confirmed_at = now(), last_step = $2, session_hash = NULL
         WHERE person_id = $1",
        person.0,
        step
    )
    .execute(&mut *tx)
    .await?;
    let codes: Vec<_> = (0..RECOVERY_CODES).map(|_| recovery_code()).collect();
    let hashes: Vec<_> = codes.iter().map(|code| hash(&plain(&code.0))).collect();
    sqlx::query!(
        "INSERT INTO recovery_code (person_id, hash) SELECT $1, unnest($2::bytea[])",
        person.0,
        &hashes
    )
    .execute(&mut *tx)
    .await?;
    sqlx::query!(
        "DELETE FROM session WHERE person_id = $1 AND hash <> $2",
        person.0,
        hash(session)
    )
    .execute(tx)
    .await?;
    Ok(Some(codes))
}

/// How somebody has proven to be the person.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// With a code of the app.
    Code,
    /// With a recovery code, which is used up.
    RecoveryCode {
        /// How many are left.
        left: i64,
    },
}

/// Looks at the code of a person, and uses it up: a code of the app is accepted once, and none that
/// is older than the last one; a recovery code is deleted. `tx` must be a transaction.
///
/// # Errors
/// When the database has trouble.
pub async fn use_code(
    tx: &mut PgConnection,
    person: PersonId,
    code: &str,
) -> sqlx::Result<Option<Proof>> {
    let found = sqlx::query_scalar!(
        "SELECT secret FROM second_factor WHERE person_id = $1 AND confirmed_at IS NOT NULL",
        person.0
    );
    let Some(secret) = found.fetch_optional(&mut *tx).await? else { return Ok(None) };
    if let Some(step) = step_of(&secret, code) {
        let used = sqlx::query!(
            "UPDATE second_factor SET last_step = $2 WHERE person_id = $1 AND last_step < $2",
            person.0,
            step
        );
        let is_new = used.execute(tx).await?.rows_affected() == 1;
        return Ok(is_new.then_some(Proof::Code));
    }
    let used = sqlx::query!(
        "DELETE FROM recovery_code WHERE person_id = $1 AND hash = $2",
        person.0,
        hash(&plain(code))
    );
    if used.execute(&mut *tx).await?.rows_affected() == 0 {
        return Ok(None);
    }
    let left = sqlx::query_scalar!(
        r#"SELECT count(*) AS "left!" FROM recovery_code WHERE person_id = $1"#,
        person.0
    );
    Ok(Some(Proof::RecoveryCode { left: left.fetch_one(tx).await? }))
}

/// Removes a person's second factor and its recovery codes, and ends the sessions. False: there was none.
///
/// # Errors
/// When the database has trouble.
pub async fn remove_second_factor(tx: &mut PgConnection, person: PersonId) -> sqlx::Result<bool> {
    let removed = sqlx::query!("DELETE FROM second_factor WHERE person_id = $1", person.0);
    let removed = removed.execute(&mut *tx).await?.rows_affected() == 1;
    super::people::end_sessions(tx, person).await?;
    Ok(removed)
}

/// The time step that a code belongs to, if it is one of now, or a step before or after.
fn step_of(secret: &[u8], code: &str) -> Option<i64> {
    let code: String = code.chars().filter(|letter| !letter.is_whitespace()).collect();
    // No recovery code looks like this.
    if code.len() != 6 || !code.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let now = u64::try_from(Utc::now().timestamp()).ok()?;
    let step = totp(secret).check(&code, now)?;
    i64::try_from(step).ok()
}

fn random(bytes: &mut [u8]) {
    #[expect(
        clippy::unwrap_used,
        reason = "without random bits of the operating system nothing can work"
    )]
    rand::rngs::OsRng.try_fill_bytes(bytes).unwrap();
}

/// A recovery code of 80 random bits, in four groups. So its hash needs no salt and cannot be
/// guessed.
fn recovery_code() -> Secret {
    let mut bytes = [0; 10];
    random(&mut bytes);
    let text = hex::encode(bytes);
    let groups: Vec<_> = text.as_bytes().chunks(5).map(String::from_utf8_lossy).collect();
    Secret(groups.join("-"))
}

/// A recovery code as it is hashed, however it was typed.
fn plain(code: &str) -> String {
    code.to_lowercase().chars().filter(char::is_ascii_alphanumeric).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The test values of RFC 6238 for SHA-1, cut to six digits.
    #[test]
    fn codes_are_those_of_the_standard() {
        let totp = totp(b"12345678901234567890");
        for (time, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
        ] {
            assert_eq!(totp.generate(time).to_string(), code);
            let step = time / STEP;
            for near in [time - STEP, time, time + STEP] {
                assert_eq!(totp.check(code, near), Some(step));
            }
            assert_eq!(
                (totp.check(code, time + 3 * STEP), totp.check(code, time + 2 * STEP)),
                (None, None)
            );
        }
    }

    #[test]
    fn a_recovery_code_is_the_same_however_it_is_typed() {
        let code = recovery_code().0;
        assert_eq!(code.len(), 23, "{code}");
        assert_eq!(plain(&code), plain(&format!(" {} ", code.to_uppercase().replace('-', " "))));
    }
}
