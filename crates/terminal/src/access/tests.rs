use axum::http::HeaderName;

use super::*;

const TOKEN: &str = "correct-horse-battery-staple";

fn access() -> Access {
    let allowed = vec![Origin::parse("https://labs.example.org").unwrap()];
    Access::new("one", Secret::new(TOKEN), allowed)
}

fn headers(pairs: &[(HeaderName, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
}

#[test]
fn origins_are_compared_by_scheme_host_and_port() {
    let same = [
        ("http://Example.org", "http://example.org:80"),
        ("https://example.org/", "https://example.org:443"),
        ("http://[::1]:8081", "http://[::1]:8081"),
    ];
    for (left, right) in same {
        assert_eq!(Origin::parse(left).unwrap(), Origin::parse(right).unwrap());
    }
    let different =
        [("http://example.org", "https://example.org"), ("http://127.0.0.1:1", "http://127.0.0.1:2")];
    for (left, right) in different {
        assert_ne!(Origin::parse(left).unwrap(), Origin::parse(right).unwrap());
    }
}

#[test]
fn what_is_no_origin_is_not_taken_for_one() {
    let texts = [
        "",
        "null",
        "example.org",
        "ftp://example.org",
        "file:///",
        "http://user@example.org",
        "http://a/path",
        "http://a?query",
    ];
    for text in texts {
        assert_eq!(Origin::parse(text), None, "{text}");
    }
}

#[test]
fn a_request_without_an_origin_is_no_browsers() {
    assert_eq!(access().check_origin(&HeaderMap::new()), Ok(()));
}

#[test]
fn our_own_origin_is_the_host_that_was_asked_for() {
    for (origin, host, allowed) in [
        ("http://127.0.0.1:8081", "127.0.0.1:8081", true),
        ("http://127.0.0.1:8081", "127.0.0.1:8080", false),
        ("https://lab.example", "lab.example", true),
        ("https://lab.example", "lab.example:443", true),
        ("http://lab.example", "lab.example:8081", false),
        ("https://labs.example.org", "anything", true),
        ("http://lab.example.evil", "lab.example", false),
        ("null", "null", false),
    ] {
        let request = headers(&[(ORIGIN, origin), (HOST, host)]);
        assert_eq!(access().check_origin(&request).is_ok(), allowed, "{origin} at {host}");
    }
    assert_eq!(access().check_origin(&headers(&[(ORIGIN, "http://a")])), Err(Refusal::ForeignOrigin));
}

#[test]
fn the_secret_is_taken_as_bearer_token_in_any_case_of_the_word() {
    for (authorization, accepted) in [
        (format!("Bearer {TOKEN}"), true),
        (format!("bearer  {TOKEN}"), true),
        (format!("Basic {TOKEN}"), false),
        (format!("Bearer {TOKEN}x"), false),
        (format!("Bearer{TOKEN}"), false),
        ("Bearer ".to_owned(), false),
    ] {
        let request = headers(&[(AUTHORIZATION, &authorization)]);
        assert_eq!(access().check_secret(&request).is_ok(), accepted, "{authorization}");
    }
}

#[test]
fn the_cookie_works_among_others_and_for_its_session_only() {
    let cookie = access().login_cookie(&HeaderMap::new());
    let pair = cookie.split(';').next().unwrap();
    let among_others = headers(&[(COOKIE, &format!("dozlab-two=x; {pair}; a=b"))]);
    assert_eq!(access().check_secret(&among_others), Ok(()));
    let (_, value) = pair.split_once('=').unwrap();
    for forged in [format!("dozlab-two={value}"), format!("dozlab-one={TOKEN}"), "dozlab-one=".to_owned()] {
        assert_eq!(
            access().check_secret(&headers(&[(COOKIE, &forged)])),
            Err(Refusal::WrongSecret),
            "{forged}"
        );
    }
    let two = Access::new("two", Secret::new(TOKEN), vec![]);
    assert!(two.check_secret(&headers(&[(COOKIE, &format!("dozlab-two={value}"))])).is_err());
}
