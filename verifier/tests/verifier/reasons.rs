//! The page of refusals is what the code says.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use token_authority_verifier::Reason;

/// Rewrites the page, and fails, when it is stale.
#[test]
fn the_page_of_refusals_lists_every_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/refusals.md");
    let page = fs::read_to_string(&path).unwrap();
    let (head, _) = page.split_once(MARK).unwrap();
    let mut fresh = format!("{head}{MARK}\n| code | status | cause | remedy |\n|---|---|---|---|\n");
    for reason in Reason::ALL {
        let (code, status) = (reason.code(), reason.status());
        writeln!(fresh, "| `{code}` | {status} | {} | {} |", reason.cause(), reason.remedy()).unwrap();
    }
    if page != fresh {
        fs::write(&path, fresh).unwrap();
        panic!("docs/refusals.md was stale and is rewritten: look at the difference");
    }
}

const MARK: &str = "<!-- Written by the verifier's tests from its own sentences. -->";
