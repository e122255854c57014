//! A verifier for a process that runs for months: it obeys deny lists that arrive, and remembers what it verified.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use crate::claims::Claims;
use crate::denials::Denials;
use crate::deny_list::{DenyList, DenyListError};
use crate::jws::Typ;
use crate::manifest::{Manifest, ManifestError};
use crate::signed::Verified;
use crate::timestamp::Timestamp;
use crate::verdicts::{Verdict, Verdicts};
use crate::verify::{Verifier, unix_seconds};
use crate::verify_error::VerifyError;

/// A deny list older than this is a sign of a broken path: an unchanged list is signed anew every hour.
pub const DENY_LIST_STALE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// How many tokens a [`LiveVerifier`] remembers unless told otherwise: about 10 MiB of tokens of the usual size, 64 MiB
/// of the longest.
pub const REMEMBERED_TOKENS: usize = 4_096;

/// A [`Verifier`] with what changes while a process runs: deny lists, and verdicts that need not be found twice.
///
/// Its memory is bounded: of deny lists it keeps what concerns its own keys, of tokens a fixed number. It still does no
/// I/O, reads no clock and starts no thread; whoever fetches a deny list hands it over with
/// [`take_deny_list`](Self::take_deny_list).
///
/// ```
/// use std::sync::Arc;
/// use token_authority_verifier::{LiveVerifier, SignedManifest, SignedRoot};
/// # macro_rules! file { ($name:literal) => { include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors/", $name)) } }
/// # let text: serde_json::Value = serde_json::from_slice(file!("text.json"))?;
/// # let token = text["cases"][0]["token"].as_str().ok_or("no token")?;
/// # let now = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_798_761_600);
/// # let setup: serde_json::Value = serde_json::from_slice(file!("setup.json"))?;
/// # let trusted = setup["root_digest"].as_str().ok_or("no digest")?;
/// let root = SignedRoot::parse(file!("root.json"))?.verify_pinned(trusted.parse()?)?;
/// let manifest = SignedManifest::parse(file!("manifest.json"))?.verify(&root)?;
/// let verifier = Arc::new(LiveVerifier::new(manifest, file!("jwks.json"), "gitlab-ai-gateway")?);
///
/// let claims = verifier.verify(token, now)?;
/// assert!(claims.permits("duo_chat"));
/// assert!(Arc::ptr_eq(&claims, &verifier.verify(token, now)?)); // remembered, and checked again
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct LiveVerifier {
    verifier: Verifier,
    manifest: Verified<Manifest>,
    denials: Denials,
    newest: Mutex<Option<Newest>>,
    /// The second from which on the deny list is stale; the beginning of time before there is one.
    stale_from: AtomicI64,
    stale_after: i64,
    refuses_when_stale: bool,
    verdicts: Verdicts,
}

#[derive(Clone, Copy, Debug)]
struct Newest {
    serial: u64,
    created: Timestamp,
    /// When it was last known to be good: `created`, unless the signer's clock was ahead of ours.
    as_of: i64,
}

/// What the deny list's delivery looks like, for a gauge and an alarm.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DenyListState {
    /// The serial of the newest list that was taken; none before the first.
    pub serial: Option<u64>,
    /// When that list was signed.
    pub created: Option<Timestamp>,
    /// How old it is; none before the first.
    pub age: Option<Duration>,
    /// No list came yet, or the newest is too old: somebody should look at the path from the issuer. Tokens are
    /// refused for it only where [`LiveVerifier::refusing_when_stale`] says so.
    pub stale: bool,
}

impl LiveVerifier {
    /// A verifier for one version of an environment's key set, as [`Verifier::from_manifest`] makes it.
    ///
    /// # Errors
    /// `jwks` is not the set that the manifest describes, or no key of it is for `audience`.
    pub fn new(
        manifest: Verified<Manifest>,
        jwks: &[u8],
        audience: impl Into<String>,
    ) -> Result<Self, ManifestError> {
        let verifier = Verifier::from_manifest(&manifest, jwks, audience)?;
        Ok(Self {
            denials: Denials::none_of(verifier.key_count()),
            verifier,
            manifest,
            newest: Mutex::new(None),
            stale_from: AtomicI64::new(i64::MIN),
            stale_after: crate::verify::seconds(DENY_LIST_STALE_AFTER),
            refuses_when_stale: false,
            verdicts: Verdicts::with_capacity(REMEMBERED_TOKENS),
        })
    }

    /// Remembers up to about this many tokens; 0 verifies every token every time. Each costs its own length and as much
    /// again for its claims.
    #[must_use]
    pub fn with_remembered_tokens(mut self, tokens: usize) -> Self {
        self.verdicts = Verdicts::with_capacity(tokens);
        self
    }

    /// Calls the deny list stale at this age, in whole seconds. Call it before the first list is taken.
    #[must_use]
    pub fn with_deny_list_stale_after(mut self, age: Duration) -> Self {
        self.stale_after = crate::verify::seconds(age);
        self
    }

    /// Refuses every token while the deny list is stale or missing.
    ///
    /// A backend that does this stops when the issuer has been unreachable for a day. Without it, such a backend goes
    /// on, and a key that was compromised in the meantime goes on there too.
    #[must_use]
    pub fn refusing_when_stale(mut self) -> Self {
        self.refuses_when_stale = true;
        self
    }

    /// What the token says, if it is to be believed at `now`.
    ///
    /// A token that passed before is not verified again, but its times, its key's end and all denials are checked every
    /// time: the verdict is always the one that a verifier without memory gives.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub fn verify(&self, token: &str, now: SystemTime) -> Result<Arc<Claims>, VerifyError> {
        let now = unix_seconds(now);
        self.check_fresh(now)?;
        if let Some(Verdict { claims, key }) = self.verdicts.find(token) {
            return match self.verifier.check_again(&claims, key, now, &self.denials) {
                Ok(()) => Ok(claims),
                Err(refusal) => {
                    self.verdicts.forget(token);
                    Err(refusal)
                }
            };
        }
        let (claims, key) = self.verifier.examine(Typ::AccessToken, token, now, &self.denials)?;
        let claims = Arc::new(claims);
        self.verdicts.remember(token, Verdict { claims: Arc::clone(&claims), key });
        Ok(claims)
    }

    /// The verdict on a probe, as [`Verifier::verify_probe`] gives it, with all denials. Probes are not remembered.
    ///
    /// # Errors
    /// See [`VerifyError`].
    pub fn verify_probe(&self, probe: &str, now: SystemTime) -> Result<Claims, VerifyError> {
        let now = unix_seconds(now);
        self.check_fresh(now)?;
        Ok(self.verifier.examine(Typ::Probe, probe, now, &self.denials)?.0)
    }

    /// Takes in a deny list, as `GET /v1/deny-list` answers it.
    ///
    /// Its entries add to those of earlier lists, each until its own `until`, whether later lists repeat it or not. So a
    /// list that comes late, or is replayed, denies what it denies and takes nothing back; only the newest counts for
    /// [`deny_list`](Self::deny_list).
    ///
    /// # Errors
    /// The list is not one of this environment's deny-list keys; see [`DenyListError`]. Nothing has changed then.
    pub fn take_deny_list(&self, jws: &str, now: SystemTime) -> Result<DenyListState, DenyListError> {
        let list = DenyList::verify(jws, &self.manifest, now)?;
        for entry in &list.entries {
            if let Some(place) = self.verifier.place_of(entry.kid) {
                self.denials.add(place, entry);
            }
        }
        let seconds = unix_seconds(now);
        let mut newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let is_newer = newest.is_none_or(|held| (held.serial, held.created) <= (list.serial, list.created));
        if is_newer {
            let as_of = list.created.unix().min(seconds);
            *newest = Some(Newest { serial: list.serial, created: list.created, as_of });
            self.stale_from.store(as_of.saturating_add(self.stale_after), Ordering::Release);
        }
        drop(newest);
        Ok(self.deny_list(now))
    }

    /// Which deny list is obeyed at `now`, and whether it is stale.
    #[must_use]
    pub fn deny_list(&self, now: SystemTime) -> DenyListState {
        let now = unix_seconds(now);
        let newest = *self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        let age = |held: Newest| {
            Duration::from_secs(u64::try_from(now.saturating_sub(held.as_of)).unwrap_or_default())
        };
        DenyListState {
            serial: newest.map(|held| held.serial),
            created: newest.map(|held| held.created),
            age: newest.map(age),
            stale: self.is_stale(now),
        }
    }

    /// The verifier underneath: what does not change while the process runs.
    #[must_use]
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// The manifest that it was made from.
    #[must_use]
    pub fn manifest(&self) -> &Verified<Manifest> {
        &self.manifest
    }

    fn check_fresh(&self, now: i64) -> Result<(), VerifyError> {
        if self.refuses_when_stale && self.is_stale(now) { Err(VerifyError::DenyListStale) } else { Ok(()) }
    }

    fn is_stale(&self, now: i64) -> bool {
        now >= self.stale_from.load(Ordering::Acquire)
    }
}
