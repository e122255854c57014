//! Parameters that many operations share, for the API's description. They are read by name.

/// What every POST takes.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what is read by name")]
pub(crate) struct Retry {
    /// A word of your choice: the same request with the same word is answered as it was the first time, for 24 hours.
    #[param(rename = "Idempotency-Key", min_length = 1, max_length = 255, nullable = false)]
    idempotency_key: Option<String>,
}

/// What every change takes.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read by name")]
pub(crate) struct Trial {
    /// Do everything but the commit: the answer is the same, and nothing has changed.
    #[param(nullable = false)]
    validate_only: Option<bool>,
}

/// What a change takes that must not be made on a record that another changed meanwhile.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Header)]
#[expect(dead_code, reason = "describes what is read by name")]
pub(crate) struct Match {
    /// The ETag of the record as you know it.
    #[param(rename = "If-Match")]
    if_match: String,
}

/// What every list takes.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "describes what is read by name")]
pub(crate) struct Pages {
    /// How many items at the most; 100 where it is missing.
    #[param(minimum = 1, maximum = 1000, nullable = false)]
    limit: Option<i64>,
    /// `next_page_token` of the page before, with the same filters.
    #[param(nullable = false)]
    page_token: Option<String>,
}
