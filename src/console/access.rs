//! Who may see and who may act, and what every answer is sent with.
//!
//! Tokens are those of the API. Without `api.admin_token` on loopback anybody is an operator, as for the
//! API; else a login opens a session. What changes something is a POST that only a page of ours can
//! send: from this origin, by an operator, with the session's own token in the form.

use std::net::IpAddr;
use std::sync::Arc;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderName, HeaderValue};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use subtle::ConstantTimeEq;

use super::error::PageError;
use super::form::Fields;
use super::session::{LIFETIME, Role, Sessions, Visitor};
use super::{Console, MAX_FORM_BYTES};
use crate::api::control::Administrators;
use crate::config::Config;

/// How somebody is called who does not say.
const ANYBODY: &str = "anybody";

/// Tokens and sessions.
pub struct Access {
    administrators: Administrators,
    read_token: Option<Arc<str>>,
    /// The open sessions.
    pub sessions: Sessions,
}

impl Access {
    /// As configured.
    pub fn new(config: &Config, administrators: Administrators) -> Self {
        Self {
            administrators,
            read_token: config.api.read_token.as_deref().map(Arc::from),
            sessions: Sessions::default(),
        }
    }

    /// What whoever shows this token may do.
    pub fn role_of(&self, token: &str) -> Option<Role> {
        let token = token.as_bytes();
        if self.administrators.know(token) {
            return Some(Role::Operator);
        }
        let is_reader = |known: &Arc<str>| bool::from(token.ct_eq(known.as_bytes()));
        self.read_token
            .as_ref()
            .is_some_and(is_reader)
            .then_some(Role::Reader)
    }

    /// Whether nobody has to log in.
    pub fn is_open(&self) -> bool {
        self.administrators.are_anybody()
    }
}

/// The cookie that opens a session. Cookies know no ports, and two consoles of a machine are two.
fn cookie_name(headers: &HeaderMap) -> String {
    let port = host(headers).and_then(|host| host.rsplit_once(':'));
    let port = port.map(|(_, port)| port).filter(|port| {
        let digits = port.bytes().all(|byte| byte.is_ascii_digit());
        digits && !port.is_empty()
    });
    format!("millrace_console_{}", port.unwrap_or("80"))
}

fn host(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::HOST)?.to_str().ok()
}

/// The session's id that a request carries.
pub fn session_id(headers: &HeaderMap) -> Option<&str> {
    let name = cookie_name(headers);
    let cookies = headers.get_all(header::COOKIE).iter();
    let pairs = cookies
        .filter_map(|cookies| cookies.to_str().ok())
        .flat_map(|cookies| cookies.split(';'));
    let mut named = pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .filter(|(cookie, _)| *cookie == name);
    named.next().map(|(_, value)| value)
}

/// Sets the cookie of a session; an empty id takes it away.
pub fn set_cookie(headers: &HeaderMap, id: &str) -> HeaderValue {
    let name = cookie_name(headers);
    let seconds = if id.is_empty() { 0 } else { LIFETIME.as_secs() };
    let cookie = format!("{name}={id}; Path=/console; HttpOnly; SameSite=Lax; Max-Age={seconds}");
    // It is hex, digits and the words above.
    HeaderValue::from_str(&cookie).unwrap_or(HeaderValue::from_static(""))
}

/// Lets a request through to a page with who makes it, or says why not.
pub async fn guarded(
    State(console): State<Console>,
    mut request: Request,
    next: Next,
) -> Result<Response, PageError> {
    let access = &console.access;
    if access.is_open() && !names_no_site(request.headers()) {
        return Err(PageError::new(
            StatusCode::FORBIDDEN,
            "This console needs no login, so it is only shown under the address of this machine: an IP \
             address or localhost. A name that somebody else points here could act in your stead. Set \
             api.admin_token to reach it by name.",
        ));
    }
    if is_fetched_by_another_site(request.headers()) {
        return Err(PageError::new(
            StatusCode::FORBIDDEN,
            "Another site's page asked for this, without anybody following a link.",
        ));
    }
    let known = session_id(request.headers()).and_then(|id| access.sessions.find(id));
    let (visitor, opened) = match known {
        Some(visitor) => (visitor, None),
        None if access.is_open() => {
            let (id, visitor) = access.sessions.open(Role::Operator, ANYBODY)?;
            (visitor, Some(set_cookie(request.headers(), &id)))
        }
        None if request.method().is_safe() => return Ok(to_login(&request)),
        None => {
            return Err(PageError::new(
                StatusCode::UNAUTHORIZED,
                "You are not logged in, or no longer. Nothing was changed; log in and send it again.",
            ));
        }
    };
    if !request.method().is_safe() {
        // Whoever has just been given a session can't have had its form.
        request = checked(request, &visitor).await?;
    }
    request.extensions_mut().insert(visitor);
    let mut response = next.run(request).await;
    if let Some(cookie) = opened {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    Ok(response)
}

fn to_login(request: &Request) -> Response {
    let wanted = request.uri().path_and_query();
    let wanted = wanted.map_or("/console/", |wanted| wanted.as_str());
    let query = serde_urlencoded::to_string([("to", wanted)]);
    let query = query.unwrap_or_default();
    Redirect::to(&format!("/console/login?{query}")).into_response()
}

/// A form that may change something: an operator's, sent by a page of ours.
async fn checked(request: Request, visitor: &Visitor) -> Result<Request, PageError> {
    if !is_same_origin(request.headers()) {
        return Err(foreign());
    }
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, MAX_FORM_BYTES).await.map_err(|_| {
        PageError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            format!("The form has more than {MAX_FORM_BYTES} bytes, the most that is read. Nothing was changed."),
        )
    })?;
    let fields = Fields::parse(&body)?;
    let shown = fields.text("csrf").unwrap_or_default();
    if !bool::from(shown.as_bytes().ct_eq(visitor.csrf.as_bytes())) {
        return Err(PageError::new(
            StatusCode::FORBIDDEN,
            "The form is of another session. Nothing was changed; load the page again and send it from there.",
        ));
    }
    // Whoever reads may leave.
    if visitor.role < Role::Operator && parts.uri.path() != "/console/logout" {
        return Err(PageError::new(
            StatusCode::FORBIDDEN,
            "You may look here and change nothing: log in with api.admin_token to act.",
        ));
    }
    Ok(Request::from_parts(parts, Body::from(body)))
}

/// What another site's form is answered with.
pub fn foreign() -> PageError {
    PageError::new(
        StatusCode::FORBIDDEN,
        "The form was not sent by a page of this console. Nothing was changed.",
    )
}

/// Whether a page of this origin sent it. Browsers say so of every POST; who says nothing is refused.
pub fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or(""));
    if text("sec-fetch-site").is_some_and(|site| site != "same-origin") {
        return false;
    }
    let Some(origin) = text("origin") else {
        return text("sec-fetch-site").is_some();
    };
    let authority = origin.split_once("://").map(|(_, authority)| authority);
    authority.is_some() && authority == host(headers)
}

/// Whether a page of another site fetches it, as an image perhaps: looking costs work too, and asking for
/// recommendations leaves an impression. Whoever follows a link is let through.
fn is_fetched_by_another_site(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_foreign = matches!(text("sec-fetch-site"), Some("cross-site" | "same-site"));
    is_foreign && text("sec-fetch-mode") != Some("navigate")
}

/// Whether the request names this machine by address: a name may be pointed here by anybody.
pub fn names_no_site(headers: &HeaderMap) -> bool {
    let Some(host) = host(headers) else {
        return false;
    };
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let address = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || address.parse::<IpAddr>().is_ok()
}

const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Every answer of the console, with what keeps browsers from doing more with it than show it.
pub async fn secured(mut response: Response) -> Response {
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        // Without any referrer browsers send forms of ours with the origin `null`.
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (
            HeaderName::from_static("cross-origin-opener-policy"),
            "same-origin",
        ),
        (
            HeaderName::from_static("cross-origin-resource-policy"),
            "same-origin",
        ),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_static(value),
            )
        };
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn another_site_may_link_here_and_fetch_nothing() {
        let image = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "no-cors"),
        ];
        assert!(is_fetched_by_another_site(&headers(&image)));
        let link = [
            ("sec-fetch-site", "cross-site"),
            ("sec-fetch-mode", "navigate"),
        ];
        assert!(!is_fetched_by_another_site(&headers(&link)));
        let own = [
            ("sec-fetch-site", "same-origin"),
            ("sec-fetch-mode", "cors"),
        ];
        assert!(!is_fetched_by_another_site(&headers(&own)));
        assert!(!is_fetched_by_another_site(&headers(&[])));
    }

    #[test]
    fn only_a_page_of_ours_sends_a_form() {
        let same = |pairs: &[(&'static str, &'static str)]| {
            let host = [("host", "localhost:7070")];
            is_same_origin(&headers(&[&host[..], pairs].concat()))
        };
        assert!(same(&[("origin", "http://localhost:7070")]));
        assert!(same(&[("sec-fetch-site", "same-origin")]));
        for foreign in [
            &[][..],
            &[("origin", "null")],
            &[("origin", "http://localhost:7071")],
            &[("origin", "https://evil.example")],
            &[("sec-fetch-site", "cross-site")],
            &[
                ("sec-fetch-site", "same-site"),
                ("origin", "http://localhost:7070"),
            ],
            &[("sec-fetch-site", "none")],
        ] {
            assert!(!same(foreign), "{foreign:?}");
        }
    }

    #[test]
    fn a_name_is_no_address() {
        for (host, address) in [
            ("127.0.0.1:7070", true),
            ("localhost", true),
            ("LOCALHOST:1", true),
            ("[::1]:7070", true),
            ("evil.example:7070", false),
            ("127.0.0.1.evil.example", false),
            ("", false),
        ] {
            assert_eq!(
                names_no_site(&headers(&[("host", host)])),
                address,
                "{host}"
            );
        }
    }

    #[test]
    fn a_cookie_is_of_one_console() {
        let sent = headers(&[
            ("host", "localhost:7071"),
            (
                "cookie",
                "a=b; millrace_console_7070=x; millrace_console_7071=y",
            ),
        ]);
        assert_eq!(session_id(&sent), Some("y"));
        assert_eq!(session_id(&headers(&[("host", "localhost:7072")])), None);
    }
}
