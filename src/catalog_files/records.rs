//! Turns the fields of one file into a record of its folder's kind.

use super::fields::{FieldProblem, Fields, Places};
use crate::domain::catalog::{
    AddOn, AddOnName, Backend, BackendName, CatalogParts, InvalidName, LicenseType, LicenseTypeName,
    RecordKind, Service, ServiceName, UnitPrimitive, UnitPrimitiveName,
};

/// Reads the record of the file named `stem` into the parts, even if fields of it are wrong, so that links to
/// it resolve and everything else that is wrong can be told too. Refuses a `stem` that is no name.
pub(super) fn read_record(
    kind: RecordKind,
    stem: &str,
    mut fields: Fields,
    parts: &mut CatalogParts,
) -> Result<(Places, Vec<FieldProblem>), InvalidName> {
    fields.name_of_file(stem);
    match kind {
        RecordKind::AddOn => parts
            .add_ons
            .push(AddOn { name: AddOnName::new(stem)?, description: fields.optional("description") }),
        RecordKind::Backend => parts.backends.push(backend(BackendName::new(stem)?, &mut fields)),
        RecordKind::LicenseType => parts.license_types.push(LicenseType {
            name: LicenseTypeName::new(stem)?,
            description: fields.optional("description"),
        }),
        RecordKind::Service => parts.services.push(service(ServiceName::new(stem)?, &mut fields)),
        RecordKind::UnitPrimitive => {
            parts.unit_primitives.push(unit_primitive(UnitPrimitiveName::new(stem)?, &mut fields));
        }
    }
    Ok(fields.finish())
}

// A required field that is missing has been reported by the time its default stands in for it: no catalog is
// made of such a record.

fn backend(name: BackendName, fields: &mut Fields) -> Backend {
    Backend {
        name,
        audience: fields.required("jwt_aud").unwrap_or_default(),
        project_url: fields.optional("project_url"),
        group: fields.optional("group"),
        description: fields.optional("description"),
    }
}

fn service(name: ServiceName, fields: &mut Fields) -> Service {
    Service {
        name,
        basic_unit_primitive: fields.optional("basic_unit_primitive"),
        realms: fields.required_list("gitlab_realm"),
        description: fields.optional("description"),
        unit_primitives: fields.required_list("unit_primitives"),
    }
}

fn unit_primitive(name: UnitPrimitiveName, fields: &mut Fields) -> UnitPrimitive {
    UnitPrimitive {
        name,
        description: fields.required("description").unwrap_or_default(),
        group: fields.optional("group"),
        feature_category: fields.required("feature_category").unwrap_or_default(),
        documentation_url: fields.optional("documentation_url"),
        milestone: fields.optional("milestone"),
        introduced_by_url: fields.optional("introduced_by_url"),
        unit_primitive_issue_url: fields.optional("unit_primitive_issue_url"),
        deprecated_by_url: fields.optional("deprecated_by_url"),
        deprecation_message: fields.optional("deprecation_message"),
        cut_off_date: fields.optional("cut_off_date"),
        min_gitlab_version: fields.optional("min_gitlab_version"),
        min_gitlab_version_for_free_access: fields.optional("min_gitlab_version_for_free_access"),
        alias_names: fields.list("alias_names"),
        license_types: fields.list("license_types"),
        backend_services: fields.list("backend_services"),
        add_ons: fields.list("add_ons"),
        realms: None,
        backend_indexes: Vec::new(),
        add_on_indexes: Vec::new(),
    }
}
