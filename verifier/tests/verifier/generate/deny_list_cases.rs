//! Deny lists: which are believed beside `manifest.json`, and what they deny.

use serde::Serialize;
use serde_json::{Value, json};
use token_authority_verifier::{DenyListEntry, Digest, Kid, Typ, compact};

use crate::fixture::{DAY, ENVIRONMENT, ISSUER, Key, Keys, NOW, timestamp};
use crate::forge::{encode, with_header, with_signature};

#[derive(Serialize)]
pub(crate) struct DenyLists {
    about: &'static str,
    cases: Vec<Case>,
}

/// One list, and what a reader says to it.
#[derive(Serialize)]
struct Case {
    name: String,
    now: i64,
    document: String,
    accepted: bool,
    /// What it denies at `now`, where it is believed.
    #[serde(skip_serializing_if = "Option::is_none")]
    denies: Option<Value>,
}

pub(crate) fn deny_lists(keys: &Keys) -> DenyLists {
    let by = &keys.deny_list;
    let entries = vec![
        entry(keys.active.kid(), None, NOW + DAY),
        entry(keys.standby.kid(), Some(NOW - 30), NOW + DAY),
        entry(keys.short_lived.kid(), None, NOW + 10),
        entry(keys.stranger.kid(), None, NOW + DAY),
    ];
    let list = |change: &dyn Fn(&mut Value)| {
        let mut list = json!({
            "created": timestamp(NOW - 60), "entries": sorted(&entries), "environment": ENVIRONMENT,
            "issuer": ISSUER, "serial": 7,
        });
        change(&mut list);
        list.to_string()
    };
    let good = list(&|_| {});
    let refused = |name: &str, document: String| Case {
        name: name.to_owned(),
        now: NOW,
        document,
        accepted: false,
        denies: None,
    };
    let believed = |name: &str, document: String, now: i64, entries: &[DenyListEntry]| {
        let counts = entries.iter().filter(|entry| now <= entry.until.unix());
        let denies: Vec<_> = counts
            .map(|entry| json!({ "kid": entry.kid, "iat_after": entry.iat_after, "until": entry.until }))
            .collect();
        Case { accepted: true, now, denies: Some(denies.into()), ..refused(name, document) }
    };
    let without = |member: &str| list(&|list| drop(list.as_object_mut().unwrap().remove(member)));
    let header_of = |typ: &str, kid: Kid| format!(r#"{{"alg":"EdDSA","kid":"{kid}","typ":"{typ}"}}"#);
    let own = header_of(Typ::DenyList.name(), by.kid());
    let with = |header: &str, payload: &str| with_header(by, header, payload);
    let signed = |payload: &str| with(&own, payload);
    let empty = list(&|list| list["entries"] = json!([]));
    let cases = vec![
        believed("four entries", signed(&good), NOW, &sorted(&entries)),
        believed("no entry", signed(&empty), NOW, &[]),
        believed("an entry whose end has come", signed(&good), NOW + 11, &sorted(&entries)),
        believed("a line end behind", format!("{}\n", signed(&good)), NOW, &sorted(&entries)),
        refused("not signed", format!("{}.{}.", encode(&own), encode(&good))),
        refused("a wrong signature", with_signature(&signed(&good), [7; 64])),
        refused("another's signature under the right kid", with_header(&keys.stranger, &own, &good)),
        refused("by an access-token key", by_key(&keys.active, &good)),
        refused("by a root key", by_key(&keys.root[0], &good)),
        refused("by a stranger", by_key(&keys.stranger, &good)),
        refused("typ of an access token", with(&header_of("at+jwt", by.kid()), &good)),
        refused("typ of a manifest", with(&header_of("key-set-manifest+jws", by.kid()), &good)),
        refused("typ missing", with(&format!(r#"{{"alg":"EdDSA","kid":"{}"}}"#, by.kid()), &good)),
        refused("kid missing", with(r#"{"alg":"EdDSA","typ":"deny-list+jws"}"#, &good)),
        refused("alg none", alg_none(by, &good)),
        refused("alg HS256", with(&own.replace("EdDSA", "HS256"), &good)),
        refused("crit", with(&own.replace("{", r#"{"crit":["exp"],"#), &good)),
        refused("another issuer's", signed(&list(&|list| list["issuer"] = json!("https://other.example")))),
        refused("another environment's", signed(&list(&|list| list["environment"] = json!("production")))),
        refused("without issuer", signed(&without("issuer"))),
        refused("without environment", signed(&without("environment"))),
        refused("without serial", signed(&without("serial"))),
        refused("without created", signed(&without("created"))),
        refused("without entries", signed(&without("entries"))),
        refused("a serial below zero", signed(&list(&|list| list["serial"] = json!(-1)))),
        refused("a serial in quotes", signed(&list(&|list| list["serial"] = json!("7")))),
        refused("created as a number", signed(&list(&|list| list["created"] = json!(NOW)))),
        refused("an unknown member", signed(&list(&|list| list["allow"] = json!([])))),
        refused(
            "an unknown member of an entry",
            signed(&list(&|list| list["entries"][0]["allow"] = json!(true))),
        ),
        refused(
            "an entry without its end",
            signed(&list(&|list| {
                list["entries"][0].as_object_mut().unwrap().remove("until");
            })),
        ),
        refused("a kid that is none", signed(&list(&|list| list["entries"][0]["kid"] = json!("key-1")))),
        refused(
            "entries out of order",
            signed(&list(&|list| list["entries"].as_array_mut().unwrap().reverse())),
        ),
        refused(
            "an entry twice",
            signed(&list(&|list| {
                let first = list["entries"][0].clone();
                list["entries"].as_array_mut().unwrap().insert(0, first);
            })),
        ),
        refused("a member twice", signed(&good.replacen('{', r#"{"created":"2027-01-01T00:00:00Z","#, 1))),
        refused("spaces, which canonical JSON has not", signed(&good.replacen('{', "{ ", 1))),
        refused("an array", signed("[]")),
        refused("no JSON", signed("deny everything")),
        refused("no JWS", good.clone()),
        Case { now: NOW + 300 * DAY + 1, ..refused("after the end of its key", signed(&good)) },
    ];
    DenyLists {
        about: "Deny lists that a reader must take or refuse beside manifest.json, and what they deny. See README.md.",
        cases,
    }
}

fn entry(kid: Kid, last: Option<i64>, until: i64) -> DenyListEntry {
    DenyListEntry { kid, iat_after: last.map(timestamp), until: timestamp(until) }
}

fn sorted(entries: &[DenyListEntry]) -> Vec<DenyListEntry> {
    let mut entries = entries.to_vec();
    entries.sort();
    entries
}

fn by_key(key: &Key, payload: &str) -> String {
    let header = format!(r#"{{"alg":"EdDSA","kid":"{}","typ":"deny-list+jws"}}"#, key.kid());
    with_header(key, &header, payload)
}

fn alg_none(key: &Key, payload: &str) -> String {
    let header = format!(r#"{{"alg":"none","kid":"{}","typ":"deny-list+jws"}}"#, key.kid());
    compact(format!("{}.{}", encode(header), encode(payload)), Digest::of(b"nothing").as_bytes())
}
