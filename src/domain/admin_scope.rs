//! What a caller of the admin API may do.

use super::words::words;

words! {
    /// One permission of an admin token.
    AdminScope {
        AdminTokensWrite => "admin_tokens:write",
        /// Audit, keys, key sets and the ledger.
        AuditRead => "audit:read",
        BackendsWrite => "backends:write",
        FulfillmentRead => "fulfillment:read",
        FulfillmentWrite => "fulfillment:write",
        InstancesWrite => "instances:write",
        LicensesRevoke => "licenses:revoke",
    }
}
