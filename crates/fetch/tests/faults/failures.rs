//! Answers that are errors: which are tried again, and what is said of those that are not.

use std::time::{Duration, Instant};

use dozlab_fetch::{Expected, FetchError, Secrets};

use super::client::{fetch, fetch_with};
use super::server::{Answer, Server, content};

#[tokio::test]
async fn an_overloaded_server_is_given_the_time_that_it_asks_for() {
    let server = Server::new(|request, number| match number {
        0 => Answer::new(429, b"").with("retry-after", "1"),
        1 => Answer::new(503, b""),
        2 => Answer::new(500, b""),
        _ => Answer::file(request, b"content", "\"v1\""),
    });
    let started = Instant::now();
    assert_eq!(fetch(&server.url("/f")).await.unwrap(), b"content");
    assert!(started.elapsed() >= Duration::from_secs(1), "it came back after {:?}", started.elapsed());
}

#[tokio::test]
async fn a_server_that_asks_for_too_much_time_is_not_waited_for() {
    let server =
        Server::new(|_, _| Answer::new(503, b"").with("retry-after", "Fri, 31 Dec 2100 23:59:59 GMT"));
    let error = fetch(&server.url("/f")).await.unwrap_err();
    assert!(matches!(error, FetchError::Later { .. }) && error.is_unreachable(), "{error}");
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn a_server_that_always_fails_is_given_up_after_the_policys_attempts() {
    let server = Server::new(|_, _| Answer::new(500, b""));
    let error = fetch(&server.url("/f")).await.unwrap_err();
    assert!(matches!(&error, FetchError::Unreachable { reason, .. } if reason.contains("500")), "{error}");
    assert_eq!(server.requests().len(), 4);
}

#[tokio::test]
async fn nobody_there_is_said_with_the_reason() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = fetch(&format!("http://127.0.0.1:{port}/f")).await.unwrap_err();
    assert!(error.is_unreachable() && error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn what_trying_again_does_not_help_is_said_at_once() {
    for (status, words) in [(401, "IMAGE_BEARER_TOKEN_FILE"), (403, "credentials"), (404, "no such file")] {
        let server = Server::new(move |_, _| Answer::new(status, b""));
        let error = fetch(&server.url("/f")).await.unwrap_err();
        assert!(matches!(error, FetchError::Refused { .. }) && error.to_string().contains(words), "{error}");
        assert_eq!(server.requests().len(), 1);
    }
}

#[tokio::test]
async fn an_empty_file_is_none() {
    for honest in [true, false] {
        let server = Server::new(move |request, _| match honest {
            true => Answer::file(request, b"", "\"v1\""),
            false => Answer::new(200, b""),
        });
        let error = fetch(&server.url("/f")).await.unwrap_err();
        assert!(matches!(error, FetchError::Empty { .. }), "{error}");
    }
}

#[tokio::test]
async fn redirects_in_a_circle_end() {
    let server = Server::new(|request, _| {
        let other = if request.path == "/a" { "/b" } else { "/a" };
        Answer::new(302, b"").with("location", other)
    });
    let error = fetch(&server.url("/a")).await.unwrap_err();
    assert!(error.to_string().contains("more than 10 redirects"), "{error}");
    assert_eq!(server.requests().len(), 11);
}

#[tokio::test]
async fn a_redirect_is_followed_once_and_secrets_stay_behind() {
    let body = content(3 << 20);
    let served = body.clone();
    let other = Server::new(move |request, _| Answer::file(request, &served, "\"v1\""));
    let to = format!("{}/elsewhere?signature=s3cret", other.address);
    let server = Server::new(move |_, _| Answer::new(307, b"").with("location", &to));
    let folder = tempfile::tempdir().unwrap();
    let headers = folder.path().join("headers");
    std::fs::write(&headers, "X-Api-Key: k3y\n").unwrap();
    let secrets = Secrets::from_env(|name| match name {
        "IMAGE_BEARER_TOKEN" => Some("t0ken".into()),
        "IMAGE_HEADER_FILE" => Some(headers.to_str().unwrap().into()),
        _ => None,
    })
    .unwrap();
    let (_, fetched) = fetch_with(&server.url("/f"), &Expected::default(), secrets).await.unwrap();
    assert!(fetched == body);
    let asked = server.requests();
    assert_eq!(asked.len(), 1, "each range followed the redirect");
    assert_eq!(asked[0].header("authorization"), Some("Bearer t0ken"));
    assert_eq!(asked[0].header("x-api-key"), Some("k3y"));
    for request in other.requests() {
        assert_eq!((request.header("authorization"), request.header("x-api-key")), (None, None));
    }
}

#[tokio::test]
async fn a_wrong_digest_is_refused_with_both() {
    let server = Server::new(|request, _| Answer::file(request, b"content", "\"v1\""));
    let expected = Expected { sha256: Some([0xab; 32]), ..Expected::default() };
    let error = fetch_with(&server.url("/f"), &expected, Secrets::default()).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, FetchError::WrongDigest { .. }) && said.contains(&"ab".repeat(32)), "{said}");
    // SHA-256 of `content`.
    assert!(said.contains("ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"), "{said}");
}
