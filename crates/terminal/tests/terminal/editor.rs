//! The way to the editor.

use axum::body::Body;
use axum::extract::Form;
use axum::http::header::{LOCATION, SET_COOKIE};
use axum::http::{Request, StatusCode};
use axum::response::IntoResponse as _;
use axum::routing::post;
use serde::Deserialize;
use tokio::net::TcpListener;

use crate::lab::{Answer, Lab, TOKEN};
use crate::vm::Vm;

const PASSWORD: &str = "pass & word=ü";

#[derive(Deserialize)]
struct Login {
    password: String,
}

/// Answers a login as code-server does: a redirect with a cookie, or its login page once more.
async fn serve_editor(listener: TcpListener) {
    let login = async |Form(login): Form<Login>| {
        if login.password != PASSWORD {
            return "the login page, with an error".into_response();
        }
        let cookie = "code-server-session-x=%24argon2id%24v; Domain=127.0.0.1; Path=/; SameSite=None";
        (StatusCode::FOUND, [(LOCATION, "./"), (SET_COOKIE, cookie)]).into_response()
    };
    let router = axum::Router::new().route("/login", post(login));
    axum::serve(listener, router).await.unwrap();
}

async fn open_editor(lab: &Lab, headers: &[(&str, &str)]) -> Answer {
    let request = Request::get("/editor/open").header("authorization", format!("Bearer {TOKEN}"));
    let request = headers.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    lab.send(request.body(Body::empty()).unwrap()).await
}

/// An editor, and a lab that knows this password for it.
async fn lab_with_editor(password: &str, variables: &[(&str, &str)]) -> (Lab, u16) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve_editor(listener));
    let url = format!("http://127.0.0.1:{port}");
    let mut all = vec![("EDITOR_URL", url.as_str()), ("EDITOR_PASSWORD", password)];
    all.extend_from_slice(variables);
    (Lab::start_with(&Vm::off(), &all).await, port)
}

#[tokio::test]
async fn the_learner_arrives_in_the_editor_logged_in() {
    let (lab, port) = lab_with_editor(PASSWORD, &[]).await;
    assert_eq!(lab.get_with_token("/session").await.json()["editor"], true);
    let answer = open_editor(&lab, &[("host", "lab.example:8081")]).await;
    assert_eq!(answer.status, StatusCode::SEE_OTHER);
    assert_eq!(answer.headers["location"], format!("http://lab.example:{port}/"));
    let cookie = "code-server-session-x=%24argon2id%24v; Path=/; HttpOnly; SameSite=Lax";
    assert_eq!(answer.headers["set-cookie"], cookie);
    assert!(!answer.body.contains("pass"), "{}", answer.body);
}

#[tokio::test]
async fn a_public_address_of_the_editor_takes_precedence() {
    let (lab, _) = lab_with_editor(PASSWORD, &[("EDITOR_PUBLIC_URL", "https://edit.example/s/1/")]).await;
    let answer = open_editor(&lab, &[("x-forwarded-proto", "https")]).await;
    assert_eq!(answer.headers["location"], "https://edit.example/s/1/");
    assert!(answer.headers["set-cookie"].to_str().unwrap().ends_with("; Secure"));
}

#[tokio::test]
async fn an_editor_that_is_not_there_yet_is_waited_for_on_a_page_that_loads_itself_again() {
    let nobody = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let variables = [("EDITOR_URL", url.as_str()), ("EDITOR_PASSWORD", PASSWORD)];
    let lab = Lab::start_with(&Vm::off(), &variables).await;
    let answer = open_editor(&lab, &[]).await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.headers["retry-after"], "1");
    assert!(answer.body.contains("http-equiv=\"refresh\"") && answer.body.contains("is starting"));
}

#[tokio::test]
async fn an_editor_that_refuses_the_password_is_an_error() {
    let (lab, _) = lab_with_editor("another password", &[]).await;
    let answer = open_editor(&lab, &[]).await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert!(answer.json()["error"].as_str().unwrap().contains("password"), "{}", answer.body);
    assert!(!answer.body.contains("another"), "{}", answer.body);
}

#[tokio::test]
async fn a_session_without_an_editor_says_so() {
    let lab = Lab::start(&Vm::off()).await;
    assert_eq!(open_editor(&lab, &[]).await.status, StatusCode::NOT_FOUND);
}
