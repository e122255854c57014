//! What an administrator may do to a customer, as requests.

use proptest::prelude::*;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

use crate::support::app::{Answer, Instance, Sold, TestApp, activate, sell, send, text};

/// Everything about one customer, with an activated instance.
pub(super) struct Books {
    pub(super) sold: Sold,
    pub(super) instance: Instance,
    purchase_id: String,
}

/// One change.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Change {
    Archive,
    Block,
    Cancel,
    EndPurchase,
    MakeAdminToken,
    MakeCustomer,
    MakeLicense,
    MakePurchase,
    Reissue,
    Release,
    Renew,
    Resume,
    Revoke,
    Suspend,
    Unblock,
}

const CHANGES: &[Change] = &[
    Change::Archive,
    Change::Block,
    Change::Cancel,
    Change::EndPurchase,
    Change::MakeAdminToken,
    Change::MakeCustomer,
    Change::MakeLicense,
    Change::MakePurchase,
    Change::Reissue,
    Change::Release,
    Change::Renew,
    Change::Resume,
    Change::Revoke,
    Change::Suspend,
    Change::Unblock,
];

pub(super) fn changes() -> impl Strategy<Value = Change> {
    prop::sample::select(CHANGES)
}

/// A request as it is sent, and may be sent again.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) method: Method,
    pub(super) path: String,
    /// The record that is changed; `None` where one is made.
    pub(super) record: Option<String>,
    pub(super) etag: Option<String>,
    pub(super) key: Option<String>,
    pub(super) body: Value,
}

impl Books {
    /// A customer who bought an add-on, with places for five instances and one of them taken.
    pub(super) async fn open(app: &TestApp) -> Self {
        let sold = sell(app, None, 5).await;
        let instance = activate(app, &sold.activation_code).await;
        let purchases = format!("/admin/v1/subscriptions/{}/add-on-purchases", sold.subscription_id);
        let purchase_id = text(&app.admin_post(&purchases, purchase()).await["id"]);
        Self { sold, instance, purchase_id }
    }

    pub(super) fn customer(&self) -> String {
        format!("/admin/v1/customers/{}", self.sold.customer_id)
    }

    pub(super) fn subscription(&self) -> String {
        format!("/admin/v1/subscriptions/{}", self.sold.subscription_id)
    }

    pub(super) fn purchase(&self) -> String {
        format!("{}/add-on-purchases/{}", self.subscription(), self.purchase_id)
    }

    pub(super) fn license(&self) -> String {
        format!("/admin/v1/licenses/{}", self.sold.license_id)
    }

    pub(super) fn installation(&self) -> String {
        format!("/admin/v1/instances/{}", self.instance.uid)
    }

    /// The request for a change, on the record as it is now.
    pub(super) async fn request(&self, app: &TestApp, change: Change) -> Request {
        let mut request = self.bare_request(change);
        if let Some(record) = &request.record {
            let read = send(app.admin(Method::GET, record)).await;
            read.expect(StatusCode::OK);
            request.etag = Some(read.headers["etag"].to_str().unwrap().to_owned());
        }
        request
    }

    fn bare_request(&self, change: Change) -> Request {
        let reason = json!({ "reason": "as the customer asked" });
        let verb = |record: String, verb: &str, body| Request {
            method: Method::POST,
            path: format!("{record}:{verb}"),
            record: Some(record),
            etag: None,
            key: None,
            body,
        };
        let make = |path: String, body| Request {
            method: Method::POST,
            path,
            record: None,
            etag: None,
            key: None,
            body,
        };
        match change {
            Change::Archive => verb(self.customer(), "archive", reason),
            Change::Block => verb(self.installation(), "block", reason),
            Change::Cancel => verb(self.subscription(), "cancel", reason),
            Change::EndPurchase => Request {
                method: Method::DELETE,
                path: self.purchase(),
                record: Some(self.purchase()),
                etag: None,
                key: None,
                body: json!({}),
            },
            Change::MakeAdminToken => {
                let body = json!({ "name": "script", "scopes": ["fulfillment:read"] });
                make("/admin/v1/admin-tokens".to_owned(), body)
            }
            Change::MakeCustomer => make("/admin/v1/customers".to_owned(), json!({ "name": "Example AG" })),
            Change::MakeLicense => {
                let body = json!({
                    "subscription_id": self.sold.subscription_id, "kind": "online", "max_instances": 1,
                });
                make("/admin/v1/licenses".to_owned(), body)
            }
            Change::MakePurchase => make(format!("{}/add-on-purchases", self.subscription()), purchase()),
            Change::Reissue => verb(self.license(), "reissue", json!({})),
            Change::Release => verb(self.installation(), "release", reason),
            Change::Renew => {
                let body = json!({ "reason": "another year", "ends_at": "2029-11-10T00:00:00Z" });
                verb(self.subscription(), "renew", body)
            }
            Change::Resume => verb(self.subscription(), "resume", reason),
            Change::Revoke => verb(self.license(), "revoke", reason),
            Change::Suspend => verb(self.subscription(), "suspend", reason),
            Change::Unblock => verb(self.installation(), "unblock", reason),
        }
    }
}

impl Request {
    /// Sends it, with all that it carries.
    pub(super) async fn send(&self, app: &TestApp) -> Answer {
        let mut request = app.admin(self.method.clone(), &self.path).json(&self.body);
        for (header, value) in [("if-match", &self.etag), ("idempotency-key", &self.key)] {
            if let Some(value) = value {
                request = request.header(header, value);
            }
        }
        send(request).await
    }
}

fn purchase() -> Value {
    json!({
        "add_on": "duo_pro", "quantity": 1,
        "starts_at": "2026-11-10T00:00:00Z", "ends_at": "2027-11-10T00:00:00Z",
    })
}
