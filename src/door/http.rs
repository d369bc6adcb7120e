//! The door in plain HTTP with JSON: six routes. JSON is the canonical JSON of
//! the contract; errors are `application/problem+json` (RFC 9457).

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{DefaultBodyLimit, FromRequest, Path, Query, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{get, post, put},
};
use serde::{Deserialize, de::DeserializeOwned};
use tonic::metadata::MetadataMap;

use crate::{
    domain::{
        ComplaintId, ComplaintName, IdempotencyKey, LocalStatus, Reference, SystemName, TrackingId,
    },
    wire::{self, v1},
};

use super::{
    Access, Caller, Cursor, Door, DoorError, Scope,
    grpc::{complaint_to_proto, fetched_to_proto, receipt_to_proto},
    language::Language,
};

/// Largest request that is read.
const BODY_BYTES: usize = 1024 * 1024;
/// Longest wait for a request's body, once its head is there: the largest one
/// over a line of 140 kbit/s. A place at the door is for those who speak.
const BODY_WITHIN: Duration = Duration::from_secs(60);
/// How long `?wait=hub` waits.
const WAIT_FOR_HUB: Duration = Duration::from_secs(30);

#[derive(Clone)]
struct Http {
    door: Door,
    access: Arc<dyn Access>,
}

/// The routes before a door.
pub fn router(door: Door, access: Arc<dyn Access>) -> Router {
    Router::new()
        .route("/v1/complaints", post(file))
        .route("/v1/complaints/{reference}", get(show))
        .route("/v1/complaints/{reference}/events", post(event))
        .route("/v1/complaints/{reference}/status", put(status))
        .route("/v1/inbox", get(inbox))
        .route("/v1/inbox/ack", post(acknowledge))
        .fallback(|| async { Problem(DoorError::NoSuchRoute) })
        .layer(middleware::from_fn(in_the_callers_language))
        .layer(DefaultBodyLimit::max(BODY_BYTES))
        .with_state(Http { door, access })
}

/// Errors are made in English; where a caller would rather read Indonesian they
/// are told again before they leave.
async fn in_the_callers_language(request: Request, next: Next) -> Response {
    let language = Language::of(request.headers());
    let mut response = next.run(request).await;
    match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem.told(language),
        None if response.status().is_success() => response,
        None => of_the_framework(response).await.told(language),
    }
}

/// What was refused before it reached a route: a method, a query, a body.
async fn of_the_framework(response: Response) -> Problem {
    let status = response.status();
    let why = axum::body::to_bytes(response.into_body(), 4_096)
        .await
        .unwrap_or_default();
    let why = String::from_utf8_lossy(&why).into_owned();
    Problem(match status {
        StatusCode::PAYLOAD_TOO_LARGE => DoorError::TooLarge { most: BODY_BYTES },
        StatusCode::METHOD_NOT_ALLOWED => DoorError::MethodNotAllowed,
        _ => DoorError::invalid("request", &why),
    })
}

/// A body says that it is JSON. A page in somebody's browser can't say so to
/// another origin, and so can't hand anything over at a door on loopback.
fn content_type(headers: &HeaderMap) -> Result<(), DoorError> {
    let value = headers.get(header::CONTENT_TYPE);
    let text = value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let media_type = text.split(';').next().unwrap_or_default().trim();
    let is_json = media_type.eq_ignore_ascii_case("application/json")
        || media_type.to_ascii_lowercase().ends_with("+json");
    is_json.then_some(()).ok_or(DoorError::UnsupportedMediaType)
}

/// The whole body of a request, if it comes in time. With what never ends the
/// connection is closed.
struct Whole(Bytes);

impl<S: Send + Sync> FromRequest<S> for Whole {
    type Rejection = Response;

    async fn from_request(request: Request, state: &S) -> Result<Self, Response> {
        let body = Bytes::from_request(request, state);
        match tokio::time::timeout(BODY_WITHIN, body).await {
            Ok(Ok(body)) => Ok(Self(body)),
            Ok(Err(refused)) => Err(refused.into_response()),
            Err(_) => {
                let within = BODY_WITHIN;
                Err(Problem(DoorError::TooSlow { within }).into_response())
            }
        }
    }
}

/// An error as HTTP says it.
#[derive(Clone)]
struct Problem(DoorError);

impl From<DoorError> for Problem {
    fn from(error: DoorError) -> Self {
        Self(error)
    }
}

impl From<crate::domain::FieldError> for Problem {
    fn from(error: crate::domain::FieldError) -> Self {
        Self(DoorError::Invalid(vec![error]))
    }
}

impl Problem {
    fn told(&self, language: Language) -> Response {
        let Self(error) = self;
        let (code, reason) = (error.http(), error.reason());
        let detail = match language {
            Language::English => error.to_string(),
            Language::Indonesian => error.indonesian(),
        };
        let fields: Vec<serde_json::Value> = match error {
            DoorError::Invalid(fields) => fields
                .iter()
                .map(|found| serde_json::json!({"field": found.field, "problem": found.problem}))
                .collect(),
            _ => Vec::new(),
        };
        let status = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut body = serde_json::json!({
            "title": status.canonical_reason().unwrap_or("error"),
            "status": code,
            "reason": reason,
            "detail": detail,
        });
        if !fields.is_empty() {
            body["fields"] = fields.into();
        }
        if let DoorError::Conflict { stored, refused } = error {
            body["stored_digest"] = stored.to_string().into();
            body["refused_digest"] = refused.to_string().into();
        }
        let mut response = (
            status,
            [
                (header::CONTENT_TYPE, "application/problem+json"),
                (header::CONTENT_LANGUAGE, language.tag()),
                (header::VARY, "Accept-Language"),
            ],
            body.to_string(),
        )
            .into_response();
        let headers = response.headers_mut();
        if let Some(after) = error.retry_after() {
            headers.insert(header::RETRY_AFTER, after.as_secs().into());
        }
        if code == 408 {
            // What is left of the body would be taken for the next request.
            let close = header::HeaderValue::from_static("close");
            headers.insert(header::CONNECTION, close);
        }
        if code == 401 {
            let scheme = header::HeaderValue::from_static("Bearer realm=\"jembatan\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.told(Language::English);
        response.extensions_mut().insert(self);
        response
    }
}

type Answer = Result<Response, Problem>;

#[derive(Debug, Default, Deserialize)]
struct Waiting {
    #[serde(default)]
    wait: String,
    #[serde(default)]
    system: String,
}

impl Waiting {
    fn for_hub(&self) -> Result<Duration, DoorError> {
        match self.wait.as_str() {
            "" | "stored" => Ok(Duration::ZERO),
            "hub" => Ok(WAIT_FOR_HUB),
            _ => Err(DoorError::invalid(
                "wait",
                "must be hub (wait for the hub's decision, at most 30 s), or left out",
            )),
        }
    }
}

async fn file(
    State(http): State<Http>,
    Query(query): Query<Waiting>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let caller = http.caller(&headers, Scope::Submit)?;
    let new: v1::NewComplaint = json(&headers, &body)?;
    let handover = v1::Handover {
        item: Some(v1::handover::Item::Complaint(new)),
        key: idempotency_key(&headers)?.unwrap_or_default(),
        system: query.system.clone(),
    };
    http.submit(&caller, handover, query.for_hub()?).await
}

async fn event(
    State(http): State<Http>,
    Path(name): Path<String>,
    Query(query): Query<Waiting>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let caller = http.caller(&headers, Scope::Submit)?;
    let mut new: v1::NewEvent = json(&headers, &body)?;
    let system = wire::system_of(&query.system, caller.system.as_ref())?;
    let name = http.named(&caller, &system, &name).await?;
    new.complaint = Some(wire::complaint_name_to(&name));
    let handover = v1::Handover {
        item: Some(v1::handover::Item::Event(new)),
        key: idempotency_key(&headers)?.unwrap_or_default(),
        system: query.system.clone(),
    };
    http.submit(&caller, handover, query.for_hub()?).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewStatus {
    #[serde(default)]
    code: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    note: String,
    time: Option<jiff::Timestamp>,
}

async fn status(
    State(http): State<Http>,
    Path(name): Path<String>,
    Query(query): Query<Waiting>,
    headers: HeaderMap,
    Whole(body): Whole,
) -> Answer {
    let caller = http.caller(&headers, Scope::Submit)?;
    let new: NewStatus = json(&headers, &body)?;
    if new.code.is_empty() && new.name.is_empty() {
        return Err(DoorError::invalid("code", "is missing: code or name is needed").into());
    }
    let key = idempotency_key(&headers)?.ok_or_else(|| {
        DoorError::invalid(
            "Idempotency-Key",
            "is missing: without it a repeated request could not be told from a second change",
        )
    })?;
    let system = wire::system_of(&query.system, caller.system.as_ref())?;
    let name = http.named(&caller, &system, &name).await?;
    let time = new
        .time
        .map(|time| crate::domain::Micros(time.as_microsecond()));
    let status = LocalStatus {
        code: new.code,
        name: new.name,
        mapped: None,
    };
    let receipt = http
        .door
        .mirror_status(
            &caller,
            system,
            name,
            (status, new.note, time),
            IdempotencyKey::parse(&key)?,
            query.for_hub()?,
        )
        .await?;
    reply(&receipt_to_proto(&receipt))
}

async fn show(
    State(http): State<Http>,
    Path(name): Path<String>,
    Query(query): Query<Waiting>,
    headers: HeaderMap,
) -> Answer {
    let caller = http.caller(&headers, Scope::Read)?;
    let system = wire::system_of(&query.system, caller.system.as_ref())?;
    let name = http.named(&caller, &system, &name).await?;
    let record = http.door.complaint(&caller, &system, &name).await?;
    reply(&complaint_to_proto(&record))
}

#[derive(Debug, Deserialize)]
struct Fetching {
    #[serde(default)]
    after: String,
    #[serde(default)]
    wait: u64,
    #[serde(default)]
    limit: usize,
}

async fn inbox(
    State(http): State<Http>,
    Query(query): Query<Fetching>,
    headers: HeaderMap,
) -> Answer {
    let caller = http.caller(&headers, Scope::Inbox)?;
    let after = match query.after.as_str() {
        "" => None,
        text => Some(Cursor::parse("after", text)?),
    };
    let wait = Duration::from_secs(query.wait.min(600));
    let fetched = http.door.fetch(&caller, after, query.limit, wait).await?;
    // It may have waited, and the right may have ended meanwhile.
    http.caller(&headers, Scope::Inbox)?;
    reply(&fetched_to_proto(&fetched))
}

async fn acknowledge(State(http): State<Http>, headers: HeaderMap, Whole(body): Whole) -> Answer {
    let caller = http.caller(&headers, Scope::Inbox)?;
    let v1::AcknowledgeInboxRequest { through } = json(&headers, &body)?;
    let through = http
        .door
        .acknowledge(&caller, Cursor::parse("through", &through)?)
        .await?;
    reply(&v1::AcknowledgeInboxResponse {
        through: through.to_string(),
    })
}

impl Http {
    fn caller(&self, headers: &HeaderMap, scope: Scope) -> Result<Caller, DoorError> {
        let metadata = MetadataMap::from_headers(headers.clone());
        self.access
            .caller(&metadata, &axum::http::Extensions::new(), scope)
    }

    /// What a path names. A reference may look like an id (many systems number
    /// with UUIDs): what is known as one's own reference is that.
    async fn named(
        &self,
        caller: &Caller,
        system: &SystemName,
        text: &str,
    ) -> Result<ComplaintName, DoorError> {
        let name = complaint_name(text)?;
        if matches!(name, ComplaintName::Id(_))
            && let Ok(reference) = Reference::parse(text)
            && self.door.knows(caller, system, reference.clone()).await?
        {
            return Ok(ComplaintName::Reference(reference));
        }
        Ok(name)
    }

    async fn submit(&self, caller: &Caller, handover: v1::Handover, wait: Duration) -> Answer {
        let handover = wire::handover_from_proto(handover, caller.system.as_ref())
            .map_err(DoorError::Invalid)?;
        let receipt = self.door.submit_one(caller, handover, wait).await?;
        reply(&receipt_to_proto(&receipt))
    }
}

/// A Tracking ID or an id is taken for one; anything else is a reference.
fn complaint_name(text: &str) -> Result<ComplaintName, DoorError> {
    if let Some(id) = ComplaintId::from_text(text) {
        return Ok(ComplaintName::Id(id));
    }
    if let Some(id) = text.strip_prefix("tracking:") {
        return TrackingId::parse(id)
            .map(ComplaintName::TrackingId)
            .map_err(|error| DoorError::Invalid(vec![error]));
    }
    Reference::parse(text)
        .map(ComplaintName::Reference)
        .map_err(|error| DoorError::Invalid(vec![error]))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, DoorError> {
    headers
        .get("idempotency-key")
        .map(|value| {
            value
                .to_str()
                // RFC draft: a structured-field string; bare ones are usual.
                .map(|text| text.trim_matches('"').to_owned())
                .map_err(|_| DoorError::invalid("Idempotency-Key", "must be ASCII"))
        })
        .transpose()
}

/// The path of the whole, as `serde_path_to_error` writes it.
const WHOLE: &str = ".";
/// How the whole is named: no field of a message has this name.
const REQUEST: &str = "request";

fn json<T: DeserializeOwned>(headers: &HeaderMap, body: &Bytes) -> Result<T, DoorError> {
    content_type(headers)?;
    read_json(body)
}

/// Longest name of a field that is told back: it may be one that a caller made up.
const FIELD_CHARS: usize = 200;

/// What does not fit is named as it stands in the JSON, `attachments[0].name`;
/// what is no JSON at all is the request's.
fn read_json<T: DeserializeOwned>(body: &[u8]) -> Result<T, DoorError> {
    let mut reader = serde_json::Deserializer::from_slice(body);
    let wrong = |field: &str, error: &serde_json::Error| {
        let problem = format!("is not the JSON that is needed here: {error}");
        DoorError::invalid(field, &problem)
    };
    let read = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path: String = error.path().to_string().chars().take(FIELD_CHARS).collect();
        match (error.inner().classify(), path.as_str()) {
            (serde_json::error::Category::Data, path) if path != WHOLE => {
                wrong(path, error.inner())
            }
            _ => wrong(REQUEST, error.inner()),
        }
    })?;
    reader.end().map_err(|error| wrong(REQUEST, &error))?;
    Ok(read)
}

fn reply<T: serde::Serialize>(message: &T) -> Answer {
    let text = serde_json::to_string(message)
        .map_err(|error| DoorError::Internal(format!("the answer can't be written: {error}")))?;
    Ok((
        StatusCode::OK,
        [(header::CONTENT_TYPE, "application/json")],
        text,
    )
        .into_response())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use tokio::time::Instant;
    use tower::ServiceExt as _;

    use super::*;

    async fn sent(body: Body) -> (Response, Duration) {
        let routes = Router::new()
            .route("/", post(|Whole(body): Whole| async move { body }))
            .layer(middleware::from_fn(in_the_callers_language))
            .layer(DefaultBodyLimit::max(BODY_BYTES));
        let request = Request::post("/").body(body).unwrap();
        let began = Instant::now();
        let response = routes.oneshot(request).await.unwrap();
        (response, began.elapsed())
    }

    /// Scenario: a caller sends a byte of a body each second and never ends it;
    /// another one sends its whole body slowly, a third one too much.
    /// Guarantee: the first is told so as any error is, when its time is over,
    /// and hung up on; the second is heard; the third is too large as ever.
    #[tokio::test(start_paused = true)]
    async fn a_body_that_never_ends_is_given_up() {
        let trickle = |bytes: usize| {
            let bytes = futures_util::stream::iter(0..bytes);
            Body::from_stream(futures_util::StreamExt::then(bytes, |_| async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                Ok::<_, std::convert::Infallible>(Bytes::from_static(b"a"))
            }))
        };
        let (given_up, took) = sent(trickle(usize::MAX)).await;
        assert_eq!(given_up.status(), StatusCode::REQUEST_TIMEOUT);
        assert_eq!(given_up.headers()[header::CONNECTION], "close");
        let media_type = &given_up.headers()[header::CONTENT_TYPE];
        assert_eq!(media_type, "application/problem+json");
        assert_eq!(took.as_secs(), BODY_WITHIN.as_secs());

        let (slow, took) = sent(trickle(50)).await;
        assert_eq!((slow.status(), took.as_secs()), (StatusCode::OK, 50));
        let (large, _) = sent(Body::from(vec![b'a'; BODY_BYTES + 1])).await;
        assert_eq!(large.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
}
