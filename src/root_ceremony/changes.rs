//! What a draft changes against what was published before it: what a holder is asked to put a name to.

use std::fmt;

use token_authority_verifier::{Denial, Digest, Jwk, Kid, Manifest, ManifestKey, Root, Timestamp};

/// One difference. The order is that of the document.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Change {
    BuildBefore { to: Timestamp },
    Denied(Denial),
    FloorRaised { to: u32 },
    HolderAdded { kid: Kid },
    HolderRemoved { kid: Kid },
    KeyAdded(Box<ManifestKey>),
    KeyRemoved { kid: Kid },
    LeewaySet { to: u32 },
    LongestTokenSet { to: u32 },
    RootSet { to: u32 },
    SetReplaced { to: Digest },
    ThresholdSet { to: u32, of: usize },
}

/// What `new` says that `old` did not; everything, where there was none before.
pub(super) fn of_manifests(old: Option<&Manifest>, new: &Manifest) -> Vec<Change> {
    let mut changes = Vec::new();
    let was = |kid: Kid| old.is_some_and(|old| old.find(kid).is_some());
    changes.extend(
        new.keys.iter().filter(|key| !was(key.kid)).map(|key| Change::KeyAdded(Box::new(key.clone()))),
    );
    let gone = old.into_iter().flat_map(|old| &old.keys).filter(|key| new.find(key.kid).is_none());
    changes.extend(gone.map(|key| Change::KeyRemoved { kid: key.kid }));
    let known = |denial: &Denial| old.is_some_and(|old| old.denied.contains(denial));
    changes.extend(new.denied.iter().filter(|denial| !known(denial)).copied().map(Change::Denied));
    let differs = |of: fn(&Manifest) -> u32| old.is_none_or(|old| of(old) != of(new));
    if differs(|manifest| manifest.min_deployable_version) {
        changes.push(Change::FloorRaised { to: new.min_deployable_version });
    }
    if differs(|manifest| manifest.max_token_ttl) {
        changes.push(Change::LongestTokenSet { to: new.max_token_ttl });
    }
    if differs(|manifest| manifest.leeway) {
        changes.push(Change::LeewaySet { to: new.leeway });
    }
    if differs(|manifest| manifest.root_version) {
        changes.push(Change::RootSet { to: new.root_version });
    }
    if old.is_none_or(|old| old.jwks_sha256 != new.jwks_sha256) {
        changes.push(Change::SetReplaced { to: new.jwks_sha256 });
    }
    if old.is_none_or(|old| old.build_before != new.build_before) {
        changes.push(Change::BuildBefore { to: new.build_before });
    }
    changes
}

/// The same for roots.
pub(super) fn of_roots(old: Option<&Root>, new: &Root) -> Vec<Change> {
    let kids = |root: &Root| root.keys.iter().map(Jwk::kid).collect::<Vec<_>>();
    let (before, after) = (old.map(kids).unwrap_or_default(), kids(new));
    let mut changes = Vec::new();
    changes.extend(
        after.iter().filter(|kid| !before.contains(kid)).map(|kid| Change::HolderAdded { kid: *kid }),
    );
    changes.extend(
        before.iter().filter(|kid| !after.contains(kid)).map(|kid| Change::HolderRemoved { kid: *kid }),
    );
    if old.is_none_or(|old| (old.threshold, old.keys.len()) != (new.threshold, new.keys.len())) {
        changes.push(Change::ThresholdSet { to: new.threshold, of: new.keys.len() });
    }
    changes
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuildBefore { to } => write!(f, "builds may embed it until {to}"),
            Self::Denied(Denial { kid, iat_after: None }) => {
                write!(f, "everything that {kid} signed is denied")
            }
            Self::Denied(Denial { kid, iat_after: Some(at) }) => {
                write!(f, "what {kid} signs after {at} is denied")
            }
            Self::FloorRaised { to } => write!(f, "processes need key set {to} or later to start"),
            Self::HolderAdded { kid } => write!(f, "{kid} becomes a key of the root"),
            Self::HolderRemoved { kid } => write!(f, "{kid} is no key of the root any more"),
            Self::KeyAdded(key) => {
                write!(f, "new key {}: {} by {}, until {}", key.kid, key.purpose, key.alg, key.not_after)?;
                match &key.audiences {
                    Some(audiences) => write!(f, ", for {} only", audiences.join(", ")),
                    None => Ok(()),
                }
            }
            Self::KeyRemoved { kid } => write!(f, "{kid} is left out"),
            Self::LeewaySet { to } => write!(f, "clocks may differ by {to} s"),
            Self::LongestTokenSet { to } => write!(f, "tokens live {to} s at most"),
            Self::RootSet { to } => write!(f, "it is signed by root {to}"),
            Self::SetReplaced { to } => write!(f, "the plain set is {to}"),
            Self::ThresholdSet { to, of } => write!(f, "{to} of {of} keys have to sign"),
        }
    }
}
