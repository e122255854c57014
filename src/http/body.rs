//! Reads a JSON body into a type: bounded, and with every refusal told by its own code.

use std::future::Future;
use std::pin::Pin;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::{FromRequest, HttpRequest, web};
use serde::de::DeserializeOwned;
use serde_json::error::Category;

use super::error::{ApiError, InvalidValue};
use super::problems;
use crate::app::App;

/// A body, read to its end but not yet parsed: who asks is checked before what is asked.
// No `Debug`: it may hold a secret in clear.
pub(crate) struct Body {
    /// As they came: retries are recognized by them.
    pub(crate) bytes: web::Bytes,
    is_json: bool,
}

impl Body {
    /// The body as a `T`. What `T` does not name is refused or ignored as `T` says.
    ///
    /// # Errors
    /// 415 for another content type, 400 for what is no JSON, 422 for a value of the
    /// wrong type, with its pointer.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        if !self.is_json {
            return Err(ApiError::refused(
                &problems::UNSUPPORTED_MEDIA_TYPE,
                "The body must be application/json.",
            ));
        }
        parse(&self.bytes)
    }

    /// The same; an empty body, of whatever type, reads as the default.
    ///
    /// # Errors
    /// As [`Body::json`].
    pub(crate) fn json_or_default<T: DeserializeOwned + Default>(&self) -> Result<T, ApiError> {
        if self.bytes.is_empty() { Ok(T::default()) } else { self.json() }
    }
}

impl FromRequest for Body {
    type Error = ApiError;
    type Future = Pin<Box<dyn Future<Output = Result<Self, ApiError>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let is_json = is_json(request);
        let bytes = read(request, payload);
        Box::pin(async move { Ok(Self { bytes: bytes.await?, is_json }) })
    }
}

/// Reads a body of which nothing is used, up to the size that any body may have, so that its sender hears of
/// the refusal before the connection closes.
pub(crate) async fn drain(app: &App, payload: web::Payload) {
    // However it ends, the refusal is told.
    let _ = payload.to_bytes_limited(app.settings.max_body_bytes.get()).await;
}

/// The whole body. It is read before anything is refused, or the connection would have to close.
fn read(
    request: &HttpRequest,
    payload: &mut Payload,
) -> impl Future<Output = Result<web::Bytes, ApiError>> + 'static {
    let limit = request.app_data::<web::Data<App>>().map_or(0, |app| app.settings.max_body_bytes.get());
    let collected = web::Payload::from_request(request, payload);
    async move {
        let payload = collected.await.map_err(|error| ApiError::fault(error.to_string()))?;
        match payload.to_bytes_limited(limit).await {
            Ok(Ok(bytes)) => Ok(bytes),
            Ok(Err(error)) => Err(ApiError::refused(&problems::INVALID_REQUEST, "The body broke off.")
                .with_member("reason", error.to_string())),
            Err(_) => Err(ApiError::refused(
                &problems::TOO_LARGE,
                format!("The body may have {limit} bytes at the most."),
            )),
        }
    }
}

fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    // A list would pass for an object whose members it gives in their order.
    if bytes.trim_ascii_start().first() == Some(&b'[') {
        serde_json::from_slice::<serde::de::IgnoredAny>(bytes).map_err(|error| malformed(&error))?;
        let detail = "the body must be an object".to_owned();
        return Err(ApiError::invalid(vec![InvalidValue {
            pointer: String::new(),
            code: "wrong_type",
            detail,
        }]));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut deserializer).map_err(|error| {
        let pointer = pointer(error.path());
        let inner = error.into_inner();
        match inner.classify() {
            Category::Data => refuse_all::<T>(bytes, wrong_type(pointer, &inner)),
            Category::Eof | Category::Io | Category::Syntax => malformed(&inner),
        }
    })?;
    deserializer.end().map_err(|error| malformed(&error))?;
    Ok(value)
}

/// The first wrong value, and what else is wrong in the same body.
fn refuse_all<T: DeserializeOwned>(bytes: &[u8], first: InvalidValue) -> ApiError {
    let members = match serde_json::from_slice(bytes) {
        Ok(serde_json::Value::Object(members)) => members,
        // What cannot be read as a whole, such as what is nested too deeply, is told as far as it was read.
        Ok(_) | Err(_) => return ApiError::invalid(vec![first]),
    };
    match from_members::<T>(members) {
        // Only the text shows it, such as a member that is given twice.
        Ok(_) => ApiError::invalid(vec![first]),
        Err(wrong) => ApiError::invalid(wrong),
    }
}

/// An object as a `T`.
///
/// # Errors
/// Every member that is unknown or of a wrong type, and the first that is missing.
pub(crate) fn from_members<T: DeserializeOwned>(
    mut members: serde_json::Map<String, serde_json::Value>,
) -> Result<T, Vec<InvalidValue>> {
    let mut wrong: Vec<InvalidValue> = Vec::new();
    loop {
        let error = match serde_path_to_error::deserialize(serde_json::Value::Object(members.clone())) {
            Ok(value) if wrong.is_empty() => return Ok(value),
            Ok(_) => return Err(wrong),
            Err(error) => error,
        };
        let member = match error.path().iter().next() {
            Some(serde_path_to_error::Segment::Map { key }) => Some(key.clone()),
            _ => None,
        };
        let found = wrong_type(pointer(error.path()), error.inner());
        // What was taken out below is missing now, which was not the caller's doing.
        if wrong.iter().any(|told| told.pointer == found.pointer) {
            return Err(wrong);
        }
        wrong.push(found);
        let taken_out = member.and_then(|member| members.remove(&member));
        if taken_out.is_none() || wrong.len() >= MOST_TOLD {
            return Err(wrong);
        }
    }
}

/// How many wrong values one answer tells.
const MOST_TOLD: usize = 50;

fn is_json(request: &HttpRequest) -> bool {
    let given = request.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = given.split(';').next().unwrap_or("").trim();
    ["application/json", "application/merge-patch+json"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(essence))
}

/// What is no JSON, or none that is read here.
pub(crate) fn malformed(error: &serde_json::Error) -> ApiError {
    // The parser has no kind of its own for it.
    if error.to_string().starts_with("recursion limit exceeded") {
        let detail = "is nested too deeply".to_owned();
        return ApiError::invalid(vec![InvalidValue { pointer: String::new(), code: "too_deep", detail }]);
    }
    ApiError::refused(
        &problems::INVALID_REQUEST,
        format!("The body is not JSON (line {}, column {}).", error.line(), error.column()),
    )
}

/// The parser's sentence in words that a caller knows, less the position, which the pointer says better.
fn wrong_type(mut pointer: String, error: &serde_json::Error) -> InvalidValue {
    let sentence = error.to_string();
    let sentence = sentence.rsplit_once(" at line ").map_or(sentence.as_str(), |(detail, _)| detail);
    if let Some(member) = quoted(sentence, "missing field `") {
        pointer.push('/');
        pointer.push_str(member);
        return InvalidValue { pointer, code: "missing", detail: "is required".to_owned() };
    }
    if quoted(sentence, "unknown field `").is_some() {
        let known = sentence.split_once("expected ").map_or("it takes no members", |(_, known)| known);
        let detail = format!("is not known here; known: {}", known.replace('`', ""));
        return InvalidValue { pointer, code: "unknown_member", detail };
    }
    let detail = match sentence.rsplit_once(", expected ") {
        Some((_, expected)) => format!("must be {}", plain(expected)),
        None => sentence.to_owned(),
    };
    InvalidValue { pointer, code: "wrong_type", detail }
}

/// The name between the backquotes that follow `before`.
fn quoted<'a>(sentence: &'a str, before: &str) -> Option<&'a str> {
    Some(sentence.strip_prefix(before)?.split_once('`')?.0)
}

/// What the parser expected, as JSON names it.
fn plain(expected: &str) -> &str {
    match expected {
        "a boolean" => "true or false",
        "a map" => "an object",
        "a sequence" => "a list",
        number if ["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"].contains(&number) => {
            "a whole number that is not too large"
        }
        kind if kind.starts_with("struct ") => "an object",
        other => other,
    }
}

/// The one character that JSON can write and PostgreSQL cannot keep.
pub(crate) fn holds_nul(name: &str, value: &serde_json::Value) -> bool {
    use serde_json::Value;
    name.contains('\0')
        || match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(values) => values.iter().any(|value| holds_nul("", value)),
            Value::Object(members) => members.iter().any(|(name, value)| holds_nul(name, value)),
            Value::Bool(_) | Value::Null | Value::Number(_) => false,
        }
}

/// RFC 6901.
fn pointer(path: &serde_path_to_error::Path) -> String {
    use serde_path_to_error::Segment;
    path.iter().fold(String::new(), |mut pointer, segment| {
        let step = match segment {
            Segment::Seq { index } => index.to_string(),
            Segment::Map { key } | Segment::Enum { variant: key } => {
                key.replace('~', "~0").replace('/', "~1")
            }
            Segment::Unknown => "?".to_owned(),
        };
        pointer.push('/');
        pointer.push_str(&step);
        pointer
    })
}
