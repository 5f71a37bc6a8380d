//! Signs manifests with Ed25519.

use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// The setting `archive_key` is not usable.
#[derive(Debug, thiserror::Error)]
#[error("archive_key is no key: write 64 hexadecimal digits (`openssl rand -hex 32` makes them)")]
pub struct BadKey;

/// The key that signs archives.
#[derive(Clone)]
pub struct SigningKey([u8; 32]);

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SigningKey")
    }
}

/// The signature of a manifest, as it is in the store beside it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Signed {
    /// Always `ed25519`.
    algorithm: String,
    /// The public key, in hexadecimal. It says which key it was: whoever verifies must know it.
    key: String,
    signature: String,
}

impl SigningKey {
    /// Reads a key: 64 hexadecimal digits.
    ///
    /// # Errors
    /// [`BadKey`].
    pub fn parse(text: &str) -> Result<Self, BadKey> {
        let mut seed = [0; 32];
        hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| BadKey)?;
        Ed25519KeyPair::from_seed_unchecked(&seed).map_err(|_| BadKey)?;
        Ok(Self(seed))
    }

    fn pair(&self) -> Result<Ed25519KeyPair, BadKey> {
        Ed25519KeyPair::from_seed_unchecked(&self.0).map_err(|_| BadKey)
    }

    pub(super) fn sign(&self, manifest: &[u8]) -> Result<Signed, BadKey> {
        let pair = self.pair()?;
        Ok(Signed {
            algorithm: "ed25519".into(),
            key: hex::encode(pair.public_key().as_ref()),
            signature: hex::encode(pair.sign(manifest).as_ref()),
        })
    }

    /// Whether this key has signed the manifest.
    pub(super) fn has_signed(&self, manifest: &[u8], signed: &Signed) -> bool {
        let (Ok(pair), Ok(signature)) = (self.pair(), hex::decode(&signed.signature)) else {
            return false;
        };
        let key = UnparsedPublicKey::new(&ED25519, pair.public_key().as_ref());
        key.verify(manifest, &signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_of_one_text_and_one_key() {
        let key = SigningKey::parse(&"07".repeat(32)).unwrap();
        let other = SigningKey::parse(&"08".repeat(32)).unwrap();
        let signed = key.sign(b"text").unwrap();

        assert!(key.has_signed(b"text", &signed));
        assert!(!key.has_signed(b"Text", &signed));
        assert!(!other.has_signed(b"text", &signed));
        assert!(SigningKey::parse("07").is_err() && SigningKey::parse(&"0g".repeat(32)).is_err());
    }
}
