//! Logging in with a token of the API, and leaving.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, html};

use super::Console;
use super::access::{self, set_cookie};
use super::error::PageError;
use super::form::{Asked, Fields, Posted};
use super::layout;

/// Longest name that somebody gives, in characters.
const MAX_NAME_CHARS: usize = 64;

/// `GET /console/login`.
pub async fn page(State(console): State<Console>, Asked(fields): Asked) -> Response {
    if console.access.is_open() {
        return Redirect::to("/console/").into_response();
    }
    layout::page(None, None, "Log in", &form(&fields, None)).into_response()
}

/// `POST /console/login`.
pub async fn enter(
    State(console): State<Console>,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Posted(fields): Posted,
) -> Result<Response, PageError> {
    if !access::is_same_origin(&headers) {
        return Err(access::foreign());
    }
    let Some(role) = console.access.role_of(fields.raw("token")) else {
        tracing::warn!(%remote, "a login to the console was refused: no such token");
        let refusal = "No such token. It is api.admin_token to act, api.read_token to look, or the control \
                       token from up.json in the data folder.";
        let page = layout::page(None, None, "Log in", &form(&fields, Some(refusal)));
        return Ok((StatusCode::UNAUTHORIZED, page).into_response());
    };
    let name: String = fields
        .text("name")
        .unwrap_or("somebody")
        .chars()
        .take(MAX_NAME_CHARS)
        .collect();
    let (id, _) = console.access.sessions.open(role, &name)?;
    let to = inside(fields.raw("to"));
    let cookie = [(header::SET_COOKIE, set_cookie(&headers, &id))];
    Ok((cookie, Redirect::to(&to)).into_response())
}

/// `POST /console/logout`.
pub async fn leave(State(console): State<Console>, headers: HeaderMap) -> Response {
    if let Some(id) = access::session_id(&headers) {
        console.access.sessions.close(id);
    }
    let cookie = [(header::SET_COOKIE, set_cookie(&headers, ""))];
    (cookie, Redirect::to("/console/login")).into_response()
}

fn form(fields: &Fields, refusal: Option<&str>) -> Markup {
    html! {
        @if let Some(refusal) = refusal {
            p.problem role="alert" { (refusal) }
        }
        form.narrow method="post" action="/console/login" {
            input type="hidden" name="to" value=(fields.raw("to"));
            div.field {
                label for="token" { "Token" }
                input id="token" name="token" type="password" required autocomplete="current-password";
            }
            div.field {
                label for="name" { "Your name" }
                input id="name" name="name" autocomplete="username" maxlength=(MAX_NAME_CHARS) value=(fields.raw("name"))
                    aria-describedby="name-hint";
                p.hint id="name-hint" { "The topic audit names it with what you do." }
            }
            button type="submit" { "Log in" }
        }
    }
}

/// A page of the console; anything else is the overview.
fn inside(to: &str) -> String {
    let is_inside = to.starts_with("/console/") && !to.contains(['\\', '\r', '\n']);
    if is_inside {
        to.to_owned()
    } else {
        "/console/".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::inside;

    #[test]
    fn a_login_leads_nowhere_else() {
        assert_eq!(inside("/console/topics?a=b"), "/console/topics?a=b");
        for outside in [
            "",
            "//evil.example",
            "https://evil.example",
            "/console/\\evil",
            "/consoles",
        ] {
            assert_eq!(inside(outside), "/console/", "{outside}");
        }
    }
}
