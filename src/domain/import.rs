//! What becomes of an import, and of each of its lines.

use super::words::words;

words! {
    /// How an import stands.
    ImportState {
        Finished => "finished",
        /// Its sender was cut off: it goes on when it is sent again.
        Interrupted => "interrupted",
        Running => "running",
    }
}

words! {
    /// What became of one line.
    LineOutcome {
        Created => "created",
        Refused => "refused",
        /// The record was there already, as the line says it.
        Unchanged => "unchanged",
    }
}

words! {
    /// What a line may hold.
    RecordType {
        AddOnPurchase => "add_on_purchase",
        Customer => "customer",
        License => "license",
        Subscription => "subscription",
    }
}
