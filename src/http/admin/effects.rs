//! What a change gives to each instance and takes from it, as it is told.

use serde::Serialize;

use crate::fulfillment::{Effect, Effects};
use crate::http::time::WireTime;

/// What a change does to instances, from its time on.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EffectsView {
    gained: Vec<EffectView>,
    lost: Vec<EffectView>,
    /// More instances may be affected than are listed.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    truncated: bool,
}

/// One unit primitive that one instance may use, or no longer may.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct EffectView {
    instance_uid: uuid::Uuid,
    unit_primitive: String,
    /// From when on: now, or when a term starts or ends.
    at: WireTime,
    /// Until when the change makes the difference; missing if for good.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    until: Option<WireTime>,
}

impl From<Effects> for EffectsView {
    fn from(effects: Effects) -> Self {
        let views = |effects: Vec<Effect>| effects.into_iter().map(EffectView::from).collect();
        Self { gained: views(effects.gained), lost: views(effects.lost), truncated: effects.truncated }
    }
}

impl From<Effect> for EffectView {
    fn from(effect: Effect) -> Self {
        Self {
            instance_uid: effect.instance_uid.as_uuid(),
            unit_primitive: effect.unit_primitive.to_string(),
            at: WireTime(effect.at),
            until: effect.until.map(WireTime),
        }
    }
}
