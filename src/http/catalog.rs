//! `GET /v1/catalog`: what is sold, its public fields only.

use actix_web::{HttpRequest, HttpResponse, web};
use serde::Serialize;

use super::caching;
use super::error::ApiError;
use super::time::WireTime;
use crate::app::App;
use crate::domain::catalog::Catalog;

/// What is sold.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct CatalogDocument {
    digest: String,
    unit_primitives: Vec<UnitPrimitiveView>,
    add_ons: Vec<NamedView>,
    license_types: Vec<NamedView>,
    backends: Vec<SoldBackendView>,
}

/// The smallest sellable piece of a feature.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct UnitPrimitiveView {
    name: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    documentation_url: Option<String>,
    /// Until then it is free with every eligible plan.
    #[serde(skip_serializing_if = "Option::is_none")]
    cut_off_date: Option<WireTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    deprecation_message: Option<String>,
    /// Any one of them contains it.
    add_ons: Vec<String>,
    /// The plans that may have it; all, if it names none.
    license_types: Vec<String>,
    backends: Vec<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct NamedView {
    name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<String>,
}

#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(crate) struct SoldBackendView {
    name: String,
    audience: String,
}

/// `GET /v1/catalog`
#[utoipa::path(get, operation_id = "catalog_read", path = "/v1/catalog", tag = "public", security(()),
    responses((status = 200, description = "What is sold", body = CatalogDocument)))]
pub(crate) async fn read(request: HttpRequest, app: web::Data<App>) -> Result<HttpResponse, ApiError> {
    let current = app.catalog.load();
    let json = serde_json::to_string(&document(&current.catalog)).map_err(ApiError::fault)?;
    Ok(caching::cached(&request, current.catalog.digest().as_str(), "public, max-age=300", json))
}

fn document(catalog: &Catalog) -> CatalogDocument {
    fn words<T: ToString>(names: &[T]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }
    CatalogDocument {
        digest: catalog.digest().as_str().to_owned(),
        unit_primitives: catalog
            .unit_primitives()
            .iter()
            .map(|primitive| UnitPrimitiveView {
                name: primitive.name.to_string(),
                description: primitive.description.clone(),
                documentation_url: primitive.documentation_url.as_ref().map(ToString::to_string),
                cut_off_date: primitive.cut_off_date.map(WireTime),
                deprecation_message: primitive.deprecation_message.clone(),
                add_ons: words(&primitive.add_ons),
                license_types: words(&primitive.license_types),
                backends: words(&primitive.backend_services),
            })
            .collect(),
        add_ons: catalog
            .add_ons()
            .iter()
            .map(|add_on| NamedView {
                name: add_on.name.to_string(),
                description: add_on.description.clone(),
            })
            .collect(),
        license_types: catalog
            .license_types()
            .iter()
            .map(|plan| NamedView { name: plan.name.to_string(), description: plan.description.clone() })
            .collect(),
        backends: catalog
            .backends()
            .iter()
            .map(|backend| SoldBackendView {
                name: backend.name.to_string(),
                audience: backend.audience.clone(),
            })
            .collect(),
    }
}
