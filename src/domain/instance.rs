//! One installation of the vendor's software.

use std::collections::BTreeSet;

use super::catalog::{BackendName, Realm, UnitPrimitiveName};
use super::version::Version;
use super::words::words;

words! {
    /// Who runs the installation.
    Deployment {
        Dedicated => "dedicated",
        SelfManaged => "self_managed",
    }
}

words! {
    /// What an installation is for. Each kind has a cap of its own.
    InstanceKind {
        Development => "development",
        Production => "production",
        Staging => "staging",
    }
}

words! {
    /// Whether an installation may use anything at all.
    InstanceState {
        Active => "active",
        /// By an administrator of ours, until unblocked.
        Blocked => "blocked",
        /// Given back; activating again takes a place anew.
        Released => "released",
    }
}

impl Deployment {
    /// Both kinds of deployment are self-managed in the reference's sense.
    #[must_use]
    pub fn realm(self) -> Realm {
        match self {
            Self::Dedicated | Self::SelfManaged => Realm::SelfManaged,
        }
    }
}

/// What a decision needs to know of an instance.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstanceStanding {
    pub state: InstanceState,
    pub version: Version,
    pub realm: Realm,
    /// What the instance's own administrator switched off.
    pub disabled_unit_primitives: BTreeSet<UnitPrimitiveName>,
    pub disabled_backends: BTreeSet<BackendName>,
}
