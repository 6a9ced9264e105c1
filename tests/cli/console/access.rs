//! Who is let in, who may act, and what browsers are told.

use anyhow::ensure;

use super::{Visitor, audited};
use crate::harness::{Pipeline, Target};

const PAGES: [&str; 8] = [
    "/console/",
    "/console/topics",
    "/console/topics/documents",
    "/console/groups",
    "/console/dead-letters",
    "/console/search",
    "/console/recommendations",
    "/console/models",
];

#[test]
fn every_page_is_served_with_what_keeps_it_safe() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    ensure!(
        up.ready["console"] == format!("{}/console/", up.api()),
        "{}",
        up.ready
    );
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    for path in PAGES {
        let page = visitor.get(path)?.ok()?;
        page.has("<h1>")?;
        let policy = page.header("content-security-policy");
        ensure!(
            policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self'"),
            "{path}: {policy}"
        );
        ensure!(
            policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"),
            "{path}: {policy}"
        );
        ensure!(page.header("x-content-type-options") == "nosniff", "{path}");
        ensure!(page.header("referrer-policy") == "same-origin", "{path}");
        ensure!(page.header("cache-control") == "no-store", "{path}");
        // The policy would keep them from running; there are none.
        for inline in [
            "<script>",
            " style=",
            " onclick=",
            " onload=",
            "<style",
            "javascript:",
        ] {
            ensure!(!page.body.contains(inline), "{path} has {inline:?}");
        }
    }
    let page = visitor.get("/console/")?.ok()?;
    for kind in ["css", "js"] {
        let end = format!(".{kind}\"");
        let (before, _) = page.body.split_once(&end).expect("the page names it");
        let path = before.rsplit('"').next().unwrap_or_default();
        let asset = visitor.get(&format!("{path}.{kind}"))?.ok()?;
        ensure!(
            asset.header("cache-control").contains("immutable"),
            "{kind}"
        );
    }
    ensure!(visitor.get("/console/assets/console-0.css")?.status == 404);
    for unknown in ["/console/nowhere", "/console/topics/a/b/c/d"] {
        let missing = visitor.get(unknown)?;
        ensure!(missing.status == 404, "{unknown}: {}", missing.status);
        missing.has("There is no page")?;
        ensure!(missing.header("content-type").starts_with("text/html"));
    }
    ensure!(visitor.get("/console")?.header("location") == "/console/");
    let missing = visitor.get("/console/topics/none-such")?;
    ensure!(missing.status == 404, "{}", missing.body);
    missing.has("no topic")?;
    up.leave()
}

#[test]
fn tokens_let_in_and_say_who_may_act() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_API__ADMIN_TOKEN", "the-operators");
    pipeline.set("MILLRACE_API__READ_TOKEN", "the-readers");
    let up = pipeline.up(&[])?;
    let stranger = Visitor::new(&pipeline, &up, "stranger");
    for path in PAGES.iter().chain(&["/console/flow.json"]) {
        let answer = stranger.get(path)?;
        ensure!(answer.status == 303, "{path}: {}", answer.status);
        ensure!(
            answer
                .header("location")
                .starts_with("/console/login?to=%2Fconsole%2F"),
            "{path}"
        );
    }
    let login = |visitor: &Visitor, token: &str| {
        let fields = [("token", token), ("name", "ada"), ("to", "/console/topics")];
        visitor.post_as("/console/login", &fields, up.api())
    };
    ensure!(login(&stranger, "guessed")?.status == 401);
    ensure!(login(&stranger, "")?.status == 401);
    let fields = [("token", "the-operators")];
    ensure!(
        stranger
            .post_as("/console/login", &fields, "https://evil.example")?
            .status
            == 403
    );
    ensure!(stranger.get("/console/")?.status == 303);

    let reader = Visitor::new(&pipeline, &up, "reader");
    let entered = login(&reader, "the-readers")?;
    ensure!(entered.status == 303 && entered.header("location") == "/console/topics");
    let cookie = entered.header("set-cookie");
    for flag in ["HttpOnly", "SameSite=Lax", "Path=/console"] {
        ensure!(cookie.contains(flag), "{cookie}");
    }
    ensure!(!cookie.contains("the-readers"), "{cookie}");
    for path in PAGES {
        reader.get(path)?.ok()?;
    }
    let page = reader.get("/console/topics/documents")?.ok()?;
    ensure!(!page.body.contains("/produce"), "{}", page.body);
    let refused = reader.post("/console/topics/documents/produce", &[("value", "x")])?;
    ensure!(refused.status == 403, "{}", refused.body);
    refused.has("api.admin_token")?;

    let operator = Visitor::new(&pipeline, &up, "operator");
    ensure!(login(&operator, "the-operators")?.status == 303);
    let sent = operator.post(
        "/console/topics/users/produce",
        &[("record-key", "k"), ("value", "x")],
    )?;
    ensure!(sent.status == 303, "{}", sent.body);
    let events = audited(&pipeline)?;
    ensure!(events.len() == 2, "{events:?}");
    ensure!(
        events[0].0 == "topics.produce" && events[0].2["who"] == "ada@console",
        "{events:?}"
    );

    // Who leaves is out, whatever cookie they kept.
    let kept = std::fs::read_to_string(pipeline.path("cookies-operator"))?;
    ensure!(operator.post("/console/logout", &[])?.status == 303);
    std::fs::write(pipeline.path("cookies-operator"), kept)?;
    ensure!(operator.get("/console/")?.status == 303);
    // Whoever may read may leave.
    ensure!(reader.post("/console/logout", &[])?.status == 303);
    up.leave()
}

#[test]
fn a_form_of_another_site_changes_nothing() -> anyhow::Result<()> {
    let pipeline = Pipeline::new(Target::Embedded)?;
    let up = pipeline.up(&[])?;
    let visitor = Visitor::new(&pipeline, &up, "anybody");
    let csrf = visitor.csrf()?;
    let path = "/console/topics/users/produce";
    let fields = [("csrf", csrf.as_str()), ("value", "forged")];
    for origin in ["https://evil.example", "null", "http://127.0.0.1:1"] {
        let answer = visitor.post_as(path, &fields, origin)?;
        ensure!(answer.status == 403, "{origin}: {}", answer.body);
    }
    let without = visitor.send(path, &["-d", &format!("csrf={csrf}&value=forged")])?;
    ensure!(without.status == 403, "no origin: {}", without.body);
    let cross = ["-H", "sec-fetch-site: cross-site"];
    let origin = format!("origin: {}", up.api());
    let body = format!("csrf={csrf}&value=forged");
    let arguments = [&cross[..], &["-H", &origin, "-d", &body]].concat();
    ensure!(visitor.send(path, &arguments)?.status == 403);
    for token in ["", "00000000000000000000000000000000"] {
        let fields = [("csrf", token), ("value", "forged")];
        let answer = visitor.post_as(path, &fields, up.api())?;
        ensure!(answer.status == 403, "{token:?}: {}", answer.body);
    }
    // Another session's.
    let other = Visitor::new(&pipeline, &up, "other");
    other.csrf()?;
    ensure!(other.post_as(path, &fields, up.api())?.status == 403);
    // A name that somebody points here.
    let named = visitor.send("/console/", &["-H", "host: evil.example"])?;
    ensure!(named.status == 403, "{}", named.body);
    ensure!(pipeline.json(&["peek", "users"])?["records"] == serde_json::json!([]));
    ensure!(audited(&pipeline)?.is_empty());
    up.leave()
}

#[test]
fn a_read_token_without_an_operators_is_refused() -> anyhow::Result<()> {
    let mut pipeline = Pipeline::new(Target::Embedded)?;
    pipeline.set("MILLRACE_API__READ_TOKEN", "the-readers");
    let error = pipeline.failure(&["up"])?;
    ensure!(error.contains("api.admin_token"), "{error}");
    Ok(())
}
