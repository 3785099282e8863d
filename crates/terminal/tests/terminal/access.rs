//! Who gets in.

use axum::body::Body;
use axum::http::{Request, StatusCode};

use crate::lab::{Answer, Lab, TOKEN};
use crate::vm::Vm;
use crate::websocket::Socket;

/// The `name=value` of the cookie that an answer sets.
fn cookie(answer: &Answer) -> String {
    let line = answer.headers["set-cookie"].to_str().unwrap();
    line.split(';').next().unwrap().to_owned()
}

#[tokio::test]
async fn whatever_is_of_the_session_asks_for_the_secret() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    for path in ["/session", "/ws", "/terminal", "/terminal/ws", "/editor/open"] {
        let answer = lab.get(path).await;
        assert_eq!(answer.status, StatusCode::UNAUTHORIZED, "{path}");
        assert!(answer.json()["error"].as_str().unwrap().contains("secret"), "{path}: {}", answer.body);
    }
    for authorization in
        ["Bearer ", "Bearer wrong-wrong-wrong-wrong", "Basic correct-horse-battery-staple", TOKEN]
    {
        let refused = Socket::open_with(&lab, "/ws", &[("authorization", authorization)]).await.err();
        assert_eq!(refused, Some(StatusCode::UNAUTHORIZED), "{authorization}");
    }
    assert_eq!(vm.shells(), 0);
    let metrics = lab.get("/metrics").await.body;
    assert!(metrics.contains("dozlab_terminal_auth_failures_total 9"), "{metrics}");
}

#[tokio::test]
async fn the_secret_in_a_query_opens_nothing() {
    let lab = Lab::start(&Vm::off()).await;
    let refused = Socket::open_with(&lab, &format!("/ws?token={TOKEN}"), &[]).await.err();
    assert_eq!(refused, Some(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn probes_and_the_page_ask_for_nothing_and_tell_nothing() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    lab.until_ready_is("ready").await;
    for path in
        ["/", "/editor", "/assets/terminal.js", "/assets/terminal.css", "/health", "/ready", "/metrics"]
    {
        let answer = lab.get(path).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}");
        assert_eq!(answer.headers["x-content-type-options"], "nosniff", "{path}");
        assert_eq!(answer.headers["referrer-policy"], "no-referrer", "{path}");
        assert!(!answer.body.contains(TOKEN), "{path}");
    }
    assert_eq!(lab.get("/nothing").await.status, StatusCode::NOT_FOUND);
    let policy = lab.get("/").await.headers["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.contains("script-src 'self';") && policy.contains("frame-ancestors 'self'"), "{policy}");
}

#[tokio::test]
async fn a_browser_that_has_the_page_is_told_so() {
    let lab = Lab::start(&Vm::off()).await;
    let answer = lab.get("/assets/terminal.js").await;
    let request = Request::get("/assets/terminal.js").header("if-none-match", &answer.headers["etag"]);
    let again = lab.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!((again.status, again.body.as_str()), (StatusCode::NOT_MODIFIED, ""));
    let request = Request::get("/assets/terminal.js").header("accept-encoding", "gzip, br");
    let compressed = lab.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(compressed.headers["content-encoding"], "gzip");
    assert!(compressed.body.len() < answer.body.len());
}

#[tokio::test]
async fn the_secret_is_exchanged_for_a_cookie_that_does_not_hold_it() {
    let vm = Vm::on();
    let lab = Lab::start(&vm).await;
    assert_eq!(lab.log_in("wrong-wrong-wrong-wrong").await.status, StatusCode::UNAUTHORIZED);
    let answer = lab.log_in(TOKEN).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let line = answer.headers["set-cookie"].to_str().unwrap();
    assert!(line.starts_with("dozlab-test=") && !line.contains(TOKEN), "{line}");
    assert!(line.contains("; Path=/; HttpOnly; SameSite=Strict") && !line.contains("Secure"), "{line}");

    let cookie = cookie(&answer);
    let request = Request::get("/session").header("cookie", format!("other=1; {cookie}"));
    let session = lab.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(session.status, StatusCode::OK);
    assert_eq!(session.json(), serde_json::json!({ "session": "test", "expiresAt": null, "editor": false }));
    let mut socket = Socket::open_with(&lab, "/ws", &[("cookie", &cookie)]).await.ok().unwrap();
    socket.expect("$ ").await;
    drop(socket);
    lab.stop().await;

    // The process was restarted; the browser's cookie is as good as before.
    let lab = Lab::start(&vm).await;
    assert!(Socket::open_with(&lab, "/ws", &[("cookie", &cookie)]).await.is_ok());
    // Another session's cookie is not, even if somebody gave both the same secret.
    let other = Lab::start_with(&vm, &[("SESSION_ID", "other")]).await;
    let renamed = cookie.replace("dozlab-test", "dozlab-other");
    let refused = Socket::open_with(&other, "/ws", &[("cookie", &renamed)]).await.err();
    assert_eq!(refused, Some(StatusCode::UNAUTHORIZED));
}

#[tokio::test]
async fn a_cookie_given_over_tls_stays_on_tls() {
    let lab = Lab::start(&Vm::off()).await;
    let request = Request::post("/session")
        .header("content-type", "application/json")
        .header("x-forwarded-proto", "https")
        .body(Body::from(format!("{{\"token\":\"{TOKEN}\"}}")));
    let answer = lab.send(request.unwrap()).await;
    assert!(answer.headers["set-cookie"].to_str().unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn logging_out_takes_the_cookie_back() {
    let lab = Lab::start(&Vm::off()).await;
    let cookie = cookie(&lab.log_in(TOKEN).await);
    let log_out = |headers: Vec<(&'static str, String)>| {
        let request = headers
            .iter()
            .fold(Request::post("/session/logout"), |request, (name, value)| request.header(*name, value));
        lab.send(request.body(Body::empty()).unwrap())
    };
    assert_eq!(log_out(vec![]).await.status, StatusCode::UNAUTHORIZED);
    let foreign = vec![("cookie", cookie.clone()), ("origin", "http://evil.example".to_owned())];
    assert_eq!(log_out(foreign).await.status, StatusCode::FORBIDDEN);
    let answer = log_out(vec![("cookie", cookie)]).await;
    assert_eq!(answer.status, StatusCode::NO_CONTENT);
    let line = answer.headers["set-cookie"].to_str().unwrap();
    assert!(line.starts_with("dozlab-test=;") && line.contains("Max-Age=0"), "{line}");
}

#[tokio::test]
async fn a_foreign_page_cannot_use_the_learners_cookie() {
    let lab = Lab::start_with(
        &Vm::off(),
        &[("ALLOWED_ORIGINS", "https://labs.example.org, http://localhost:3000")],
    )
    .await;
    let cookie = cookie(&lab.log_in(TOKEN).await);
    let own = format!("http://{}", lab.address);
    let other_port = format!("http://127.0.0.1:{}", lab.address.port().wrapping_add(1));
    for allowed in [own.as_str(), "https://labs.example.org", "http://localhost:3000"] {
        let opened = Socket::open_with(&lab, "/ws", &[("cookie", &cookie), ("origin", allowed)]).await;
        assert!(opened.is_ok(), "{allowed}");
    }
    for foreign in ["http://evil.example", "http://labs.example.org", "null", other_port.as_str()] {
        let headers =
            [("cookie", cookie.as_str()), ("origin", foreign), ("x-forwarded-host", "evil.example")];
        for path in ["/ws", "/terminal"] {
            let refused = Socket::open_with(&lab, path, &headers).await.err();
            assert_eq!(refused, Some(StatusCode::FORBIDDEN), "{foreign}");
        }
        // Who does not know the secret learns nothing about origins.
        let refused = Socket::open_with(&lab, "/ws", &[("origin", foreign)]).await.err();
        assert_eq!(refused, Some(StatusCode::UNAUTHORIZED), "{foreign}");
    }
}

#[tokio::test]
async fn a_login_that_is_no_login_is_refused_with_a_reason() {
    let lab = Lab::start(&Vm::off()).await;
    let attempts = [
        ("application/json", "{", StatusCode::BAD_REQUEST),
        ("application/json", "{}", StatusCode::UNPROCESSABLE_ENTITY),
        ("text/plain", "token", StatusCode::UNSUPPORTED_MEDIA_TYPE),
        ("application/json", &"x".repeat(5000), StatusCode::PAYLOAD_TOO_LARGE),
    ];
    for (content_type, body, expected) in attempts {
        let request = Request::post("/session").header("content-type", content_type);
        let answer = lab.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        assert_eq!(answer.status, expected, "{body}");
        assert!(answer.json()["error"].is_string());
    }
}
