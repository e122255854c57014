//! The records that a catalog is made of, field by field as `docs/catalog.md` describes them.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::links::HttpUrl;
use super::names::{AddOnName, BackendName, LicenseTypeName, ServiceName, UnitPrimitiveName};
use crate::domain::version::Version;

/// All records of a catalog, not yet checked against each other: see [`super::Catalog::new`].
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct CatalogParts {
    #[serde(default)]
    pub add_ons: Vec<AddOn>,
    #[serde(default, rename = "backend_services")]
    pub backends: Vec<Backend>,
    #[serde(default)]
    pub license_types: Vec<LicenseType>,
    #[serde(default)]
    pub services: Vec<Service>,
    #[serde(default)]
    pub unit_primitives: Vec<UnitPrimitive>,
}

/// The smallest sellable piece of a feature.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct UnitPrimitive {
    pub name: UnitPrimitiveName,
    pub description: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    pub feature_category: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documentation_url: Option<HttpUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milestone: Option<Version>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub introduced_by_url: Option<HttpUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit_primitive_issue_url: Option<HttpUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecated_by_url: Option<HttpUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deprecation_message: Option<String>,
    /// The end of free access; `None`: free for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_off_date: Option<DateTime<Utc>>,
    /// What an instance must run for paid access; `None`: any version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_gitlab_version: Option<Version>,
    /// What an instance must run while access is free; `None`: any version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_gitlab_version_for_free_access: Option<Version>,
    /// Names that it had before; each finds it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub alias_names: Vec<UnitPrimitiveName>,
    /// The plans that may have it; empty: all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub license_types: Vec<LicenseTypeName>,
    /// The backends that host it; empty: none does, and no token names it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub backend_services: Vec<BackendName>,
    /// Any one of these grants it after the cut-off; empty: the plan alone does.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub add_ons: Vec<AddOnName>,
    /// Where it is offered: the union of the realms of the services that name it, sorted. `None`, since no
    /// service names it: everywhere. Worked out by [`super::Catalog::new`].
    #[serde(skip)]
    pub realms: Option<Vec<Realm>>,
    /// `backend_services` as indexes into [`super::Catalog::backends`]. Worked out likewise.
    #[serde(skip)]
    pub backend_indexes: Vec<usize>,
    /// `add_ons` as indexes into [`super::Catalog::add_ons`]. Worked out likewise.
    #[serde(skip)]
    pub add_on_indexes: Vec<usize>,
}

impl UnitPrimitive {
    /// Whether it should no longer be relied on. It is still granted.
    #[must_use]
    pub fn is_deprecated(&self) -> bool {
        self.deprecated_by_url.is_some() || self.deprecation_message.is_some()
    }
}

/// A hosted service that verifies tokens.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Backend {
    pub name: BackendName,
    /// What its tokens' `aud` says (RFC 7519 §4.1.3); no two backends share one.
    #[serde(rename = "jwt_aud")]
    pub audience: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project_url: Option<HttpUrl>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// What a customer can buy in addition to a plan.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AddOn {
    pub name: AddOnName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// A plan.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct LicenseType {
    pub name: LicenseTypeName,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// The older view, which older instances still ask for: primitives under one name, and where they are offered.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Service {
    pub name: ServiceName,
    /// One of `unit_primitives`, from which the service takes its cut-off, versions and plans; `None`: the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub basic_unit_primitive: Option<UnitPrimitiveName>,
    #[serde(rename = "gitlab_realm")]
    pub realms: Vec<Realm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// At least one, in the file's order.
    pub unit_primitives: Vec<UnitPrimitiveName>,
}

/// Who runs an instance: the vendor, or the customer.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Realm {
    GitlabCom,
    SelfManaged,
}

impl Realm {
    /// The word in the catalog's files.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::GitlabCom => "gitlab-com",
            Self::SelfManaged => "self-managed",
        }
    }

    /// The word in a token's `gitlab_realm`.
    #[must_use]
    pub fn claim(self) -> &'static str {
        match self {
            Self::GitlabCom => "saas",
            Self::SelfManaged => "self-managed",
        }
    }
}

/// A text that names no realm.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("a realm is gitlab-com or self-managed")]
pub struct UnknownRealm;

impl FromStr for Realm {
    type Err = UnknownRealm;

    fn from_str(word: &str) -> Result<Self, Self::Err> {
        [Self::GitlabCom, Self::SelfManaged]
            .into_iter()
            .find(|realm| realm.as_str() == word)
            .ok_or(UnknownRealm)
    }
}

impl fmt::Display for Realm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The kinds of records, each a folder of files.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum RecordKind {
    AddOn,
    Backend,
    LicenseType,
    Service,
    UnitPrimitive,
}

impl RecordKind {
    /// Every kind, in the order of their folders' names.
    pub const ALL: [Self; 5] =
        [Self::AddOn, Self::Backend, Self::LicenseType, Self::Service, Self::UnitPrimitive];

    /// The folder of its files, and the member of the JSON document.
    #[must_use]
    pub fn folder(self) -> &'static str {
        match self {
            Self::AddOn => "add_ons",
            Self::Backend => "backend_services",
            Self::LicenseType => "license_types",
            Self::Service => "services",
            Self::UnitPrimitive => "unit_primitives",
        }
    }

    /// What people call one of them.
    #[must_use]
    pub fn noun(self) -> &'static str {
        match self {
            Self::AddOn => "add-on",
            Self::Backend => "backend service",
            Self::LicenseType => "license type",
            Self::Service => "service",
            Self::UnitPrimitive => "unit primitive",
        }
    }
}
