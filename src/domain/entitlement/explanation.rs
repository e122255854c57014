//! Puts a decision into words: a stable code, a sentence, and what to do about it.

use std::borrow::Cow;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Cause, Denial, Entitlement, Obstacle, Situation, Verdict};
use crate::domain::catalog::{Catalog, UnitPrimitive};

/// Why a unit primitive is granted or not.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Explanation {
    /// Stable; programs compare it.
    pub code: Cow<'static, str>,
    /// A sentence for people.
    pub detail: String,
    /// What changes a denial; `None` for a grant, or where nothing can be done.
    pub remedy: Option<String>,
}

impl Explanation {
    /// The words for one entitlement of a decision on this situation.
    #[must_use]
    pub fn of(catalog: &Catalog, situation: &Situation, entitlement: &Entitlement) -> Self {
        let primitive = &catalog.unit_primitives()[entitlement.unit_primitive];
        match entitlement.verdict {
            Verdict::Granted { cause, in_grace } => granted(catalog, situation, primitive, cause, in_grace),
            Verdict::Denied(denial) => denied(situation, primitive, denial),
        }
    }
}

impl Obstacle {
    /// The stable code of the refusal.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "expired",
            Self::InstanceBlocked => "instance_blocked",
            Self::InstanceReleased => "instance_released",
            Self::LicenseNotOnline => "license_not_online",
            Self::LicenseRevoked { .. } => "license_revoked",
            Self::NotStarted { .. } => "not_started",
            Self::SubscriptionCanceled => "subscription_canceled",
            Self::SubscriptionSuspended => "subscription_suspended",
        }
    }

    /// What is the matter, in a sentence.
    #[must_use]
    pub fn detail(&self) -> String {
        match self {
            Self::Expired { ended_at } => {
                format!("The subscription ended on {} and its grace is over.", instant(*ended_at))
            }
            Self::InstanceBlocked => "This instance is blocked.".to_owned(),
            Self::InstanceReleased => "This instance was released.".to_owned(),
            Self::LicenseNotOnline => {
                "The license is for use without a connection; hosted features need an online license."
                    .to_owned()
            }
            Self::LicenseRevoked { at } => format!("The license was revoked on {}.", instant(*at)),
            Self::NotStarted { starts_at } => {
                format!("The subscription starts on {}.", instant(*starts_at))
            }
            Self::SubscriptionCanceled => "The subscription was canceled.".to_owned(),
            Self::SubscriptionSuspended => "The subscription is suspended.".to_owned(),
        }
    }

    /// What to do about it.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Expired { .. } => "Renew the subscription.",
            Self::InstanceBlocked => "Ask the vendor's support why, and have it unblocked.",
            Self::InstanceReleased => "Activate the instance again with an activation code.",
            Self::LicenseNotOnline => "Ask the vendor for an online license and activate with its code.",
            Self::LicenseRevoked { .. } => "Ask the vendor for a new license and activate with its code.",
            Self::NotStarted { .. } => {
                "Wait for the start of the term, or ask the vendor to bring it forward."
            }
            Self::SubscriptionCanceled => "Buy a new subscription.",
            Self::SubscriptionSuspended => "Settle what it was suspended for with the vendor.",
        }
    }
}

fn granted(
    catalog: &Catalog,
    situation: &Situation,
    primitive: &UnitPrimitive,
    cause: Cause,
    in_grace: bool,
) -> Explanation {
    let plan = &situation.subscription.license_type;
    let (code, mut detail) = match cause {
        Cause::AddOn(index) => {
            let add_on = &catalog.add_ons()[index].name;
            (Cow::Owned(format!("add_on:{add_on}")), format!("Part of the add-on {add_on}."))
        }
        Cause::FreeAccess => (
            Cow::Borrowed("free_access"),
            primitive.cut_off_date.map_or_else(
                || "Free with every eligible plan.".to_owned(),
                |cut_off| format!("Free until {}.", instant(cut_off)),
            ),
        ),
        Cause::LicenseType => {
            (Cow::Owned(format!("license_type:{plan}")), format!("Part of the plan {plan}."))
        }
    };
    if in_grace {
        detail.push_str(" The term is over; only its grace holds this.");
    }
    Explanation { code, detail, remedy: None }
}

fn denied(situation: &Situation, primitive: &UnitPrimitive, denial: Denial) -> Explanation {
    let name = &primitive.name;
    let (code, detail, remedy) = match denial {
        Denial::AddOnNotPurchased => (
            "add_on_not_purchased",
            format!("No active purchase of an add-on that contains {name}."),
            format!("Purchase one of: {}.", list(&primitive.add_ons)),
        ),
        Denial::DisabledByInstance => (
            "disabled_by_instance",
            format!("The administrator of this instance switched {name} off."),
            "Switch it on in the instance's access settings.".to_owned(),
        ),
        Denial::LicenseTypeNotEligible => (
            "license_type_not_eligible",
            format!("The plan {} does not include {name}.", situation.subscription.license_type),
            format!("Change to one of the plans: {}.", list(&primitive.license_types)),
        ),
        Denial::NotInRealm => (
            "not_in_realm",
            format!("{name} is not offered to {} instances.", situation.instance.realm),
            "It is offered only in the vendor's other realm.".to_owned(),
        ),
        Denial::Obstacle(obstacle) => (obstacle.code(), obstacle.detail(), obstacle.remedy().to_owned()),
        Denial::VersionTooOld { free_access } => version_too_old(situation, primitive, free_access),
    };
    Explanation { code: Cow::Borrowed(code), detail, remedy: Some(remedy) }
}

fn version_too_old(
    situation: &Situation,
    primitive: &UnitPrimitive,
    free_access: bool,
) -> (&'static str, String, String) {
    let minimum = if free_access {
        &primitive.min_gitlab_version_for_free_access
    } else {
        &primitive.min_gitlab_version
    };
    let remedy = minimum
        .as_ref()
        .map_or_else(|| "Upgrade.".to_owned(), |minimum| format!("Upgrade to at least {minimum}."));
    let detail = format!("Version {} is too old for {}.", situation.instance.version, primitive.name);
    ("version_too_old", detail, remedy)
}

fn list<T: ToString>(names: &[T]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// An instant as people read it, to the second.
fn instant(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}
