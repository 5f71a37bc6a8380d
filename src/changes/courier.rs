//! Calls a webhook over HTTP. An organisation chooses the address, so the call goes to public
//! addresses only, follows no redirect, and waits for a short answer.

use std::{
    error::Error,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use reqwest::{
    Client, StatusCode,
    dns::{Addrs, Name, Resolve, Resolving},
    header::CONTENT_TYPE,
    redirect::Policy,
};
use standardwebhooks::Webhook as Signer;

use super::{
    address::{self, AddressError},
    deliveries::{Answer, Call},
};

/// A call ends after this time, whatever has come by then.
pub const CALL_MAX: Duration = Duration::from_secs(5);
/// So much of an answer is read, so that the connection can be used again.
const ANSWER_MAX: usize = 64 * 1024;

/// Looks names up. The call goes to an address that was looked at here: nobody looks it up a second
/// time, and gets another answer.
#[derive(Debug)]
struct Public;

impl Resolve for Public {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let private = || Box::new(AddressError::Private(name.as_str().to_owned()));
            // The same words whether there is no such name or a private one: nobody learns our names.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await.map_err(|_| private())?;
            let public: Vec<SocketAddr> =
                found.filter(|found| address::is_public(found.ip())).collect();
            if public.is_empty() {
                return Err(private() as Box<dyn Error + Send + Sync>);
            }
            Ok(Box::new(public.into_iter()) as Addrs)
        })
    }
}

/// Calls webhooks.
#[derive(Debug, Clone)]
pub struct Courier {
    client: Client,
    private_too: bool,
}

impl Courier {
    /// A courier that calls public addresses; or also private ones.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub fn new(private_too: bool) -> reqwest::Result<Self> {
        let mut client = Client::builder()
            .user_agent(concat!("photogate/", env!("CARGO_PKG_VERSION")))
            .redirect(Policy::none())
            // A proxy of the environment would look names up by itself.
            .no_proxy()
            .timeout(CALL_MAX);
        if !private_too {
            client = client.dns_resolver(Arc::new(Public));
        }
        Ok(Self { client: client.build()?, private_too })
    }

    /// Makes the call, and says what came of it.
    pub async fn call(&self, call: &Call) -> Answer {
        match tokio::time::timeout(CALL_MAX, self.send(call)).await {
            Ok(Ok(status)) if status.is_success() => {
                Answer { status: Some(status.as_u16()), trouble: None }
            }
            Ok(Ok(status)) => {
                let trouble = Some(format!("it answered {status}"));
                Answer { status: Some(status.as_u16()), trouble }
            }
            Ok(Err(trouble)) => Answer { status: None, trouble: Some(trouble) },
            Err(_) => Answer { status: None, trouble: Some(too_late()) },
        }
    }

    async fn send(&self, call: &Call) -> Result<StatusCode, String> {
        let url = address::check(&call.url, self.private_too).map_err(|error| error.to_string())?;
        let body = serde_json::to_string(&call.change).map_err(|error| error.to_string())?;
        let id = format!("{}-{}", call.organisation, call.position);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let signatures = call.secrets.iter().map(|secret| {
            Signer::from_bytes(secret.clone())
                .and_then(|signer| signer.sign(&id, now, body.as_bytes()))
        });
        let signatures =
            signatures.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        let request = self
            .client
            .post(url)
            .header(CONTENT_TYPE, "application/cloudevents+json")
            .header("webhook-id", id)
            .header("webhook-timestamp", now.to_string())
            .header("webhook-signature", signatures.join(" "))
            .body(body);
        let mut answer = request.send().await.map_err(|error| why(&error))?;
        let mut read = 0;
        while read < ANSWER_MAX {
            match answer.chunk().await {
                Ok(Some(chunk)) => read += chunk.len(),
                Ok(None) => break,
                Err(error) => return Err(why(&error)),
            }
        }
        Ok(answer.status())
    }
}

fn too_late() -> String {
    format!("it did not answer within {} seconds", CALL_MAX.as_secs())
}

/// The reason at the bottom, without the address: it may have a secret in it.
fn why(error: &reqwest::Error) -> String {
    if error.is_timeout() {
        return too_late();
    }
    let mut bottom: &dyn Error = error;
    while let Some(source) = bottom.source() {
        bottom = source;
    }
    bottom.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_name_that_leads_here_is_resolved_to_nothing() {
        for name in ["localhost", "nowhere.invalid"] {
            let resolved = Public.resolve(name.parse().unwrap()).await;
            let trouble = resolved.map(|_| ()).unwrap_err().to_string();
            assert!(trouble.contains("leads to no public address"), "{trouble}");
        }
    }

    /// The address is fine, and its name leads here: only the resolver keeps the call back.
    #[tokio::test]
    async fn a_call_goes_through_that_resolver() {
        let courier = Courier::new(false).unwrap();
        let asked = courier.client.get("https://localhost:9/").send().await.unwrap_err();
        assert!(why(&asked).contains("leads to no public address"), "{}", why(&asked));
    }
}
