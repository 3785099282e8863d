//! Transfers that break, stall, or are answered with ranges that nobody asked for.

use dozlab_fetch::FetchError;

use super::client::fetch;
use super::server::{Answer, Request, Server, content};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_large_file_is_asked_for_in_ranges_and_arrives_in_order() {
    let body = content(9 * MIB + 4321);
    let served = body.clone();
    let server = Server::new(move |request, _| Answer::file(request, &served, "\"v1\""));
    assert!(fetch(&server.url("/f")).await.unwrap() == body);
    let requests = server.requests();
    assert_eq!(requests.len(), 10);
    assert!(requests[1..].iter().all(|request| request.header("if-range") == Some("\"v1\"")));
}

#[tokio::test]
async fn a_broken_connection_is_taken_up_where_it_ended() {
    let body = content(5 * MIB);
    let served = body.clone();
    let server = Server::new(move |request, number| {
        let answer = Answer::file(request, &served, "\"v1\"");
        let half = answer.body.len() / 2;
        if number % 2 == 0 && half > 64 << 10 { answer.cut_at(half) } else { answer }
    });
    assert!(fetch(&server.url("/f")).await.unwrap() == body);
    let starts: Vec<usize> = server.requests().iter().map(|request| request.range().unwrap().0).collect();
    assert!(starts.iter().any(|start| start % MIB != 0), "no range was taken up: {starts:?}");
    // Nothing was asked for twice.
    let mut unique = starts.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), starts.len(), "{starts:?}");
}

#[tokio::test]
async fn a_connection_that_stalls_counts_as_broken() {
    let body = content(2 * MIB);
    let served = body.clone();
    let server = Server::new(move |request, number| {
        let answer = Answer::file(request, &served, "\"v1\"");
        if number == 0 { answer.cut_at(1000).stalling() } else { answer }
    });
    assert!(fetch(&server.url("/f")).await.unwrap() == body);
    assert_eq!(server.requests()[1].range().unwrap().0, 1000);
}

#[tokio::test]
async fn a_server_that_always_stalls_is_given_up_with_the_reason() {
    let server = Server::new(|_, _| Answer::new(200, b"never sent").cut_at(0).stalling());
    let error = fetch(&server.url("/f?secret=1")).await.unwrap_err();
    let said = error.to_string();
    assert!(matches!(error, FetchError::Unreachable { attempts: 4, .. }), "{said}");
    assert!(said.contains("nothing arrived for 1.0 s") && !said.contains("secret"), "{said}");
}

/// A server whose ranges are wrong in one way, and whose whole answers are right.
async fn wrong_ranges(spoil: impl Fn(&Request, Answer) -> Answer + Send + Sync + 'static) {
    let body = content(3 * MIB);
    let served = body.clone();
    let server = Server::new(move |request, _| {
        let answer = Answer::file(request, &served, "\"v1\"");
        if request.range().is_some() { spoil(request, answer) } else { answer }
    });
    assert!(fetch(&server.url("/f")).await.unwrap() == body);
    assert!(server.requests().last().unwrap().range().is_none(), "the whole was not asked for");
}

#[tokio::test]
async fn ranges_that_are_wrong_are_not_used() {
    let total = 3 * MIB;
    // Not what was asked for.
    wrong_ranges(move |_, answer| answer.with("content-range", &format!("bytes 7-{}/{total}", MIB + 6)))
        .await;
    // Right for the first range, another one's for the rest.
    wrong_ranges(move |request, answer| match request.range().unwrap() {
        (0, _) => answer,
        _ => answer.with("content-range", &format!("bytes 0-{}/{total}", MIB - 1)),
    })
    .await;
    // No range at all.
    wrong_ranges(|_, mut answer| {
        answer.headers.retain(|(name, _)| *name != "content-range");
        answer
    })
    .await;
    // More bytes than the range has.
    wrong_ranges(move |_, mut answer| {
        answer.body.push(0);
        let length = answer.body.len().to_string();
        answer.with("content-length", &length)
    })
    .await;
    // Nothing by which versions can be told apart.
    wrong_ranges(|_, mut answer| {
        answer.headers.retain(|(name, _)| *name != "etag");
        answer
    })
    .await;
    // Ranges are not liked.
    wrong_ranges(|_, _| Answer::new(416, b"")).await;
}

#[tokio::test]
async fn a_server_may_send_less_than_the_range_that_was_asked_for() {
    let body = content(2 * MIB);
    let served = body.clone();
    let server = Server::new(move |request, _| {
        let (first, last) = request.range().unwrap();
        let last = last.min(first + 400_000);
        let range = format!("bytes {first}-{last}/{}", served.len());
        Answer::new(206, &served[first..=last]).with("content-range", &range).with("etag", "\"v1\"")
    });
    assert!(fetch(&server.url("/f")).await.unwrap() == body);
}

#[tokio::test]
async fn a_server_without_ranges_is_asked_for_the_whole_again() {
    let body = content(3 * MIB);
    let served = body.clone();
    let server = Server::new(move |_, number| {
        let answer = Answer::new(200, &served);
        if number < 2 { answer.cut_at(2 * MIB) } else { answer }
    });
    assert!(fetch(&server.url("/f")).await.unwrap() == body);
    assert_eq!(server.requests().len(), 3);
}

#[tokio::test]
async fn a_lie_about_the_length_is_never_taken_for_the_whole() {
    let server = Server::new(|_, _| Answer::new(200, b"too little").with("content-length", "1000"));
    let error = fetch(&server.url("/f")).await.unwrap_err();
    assert!(matches!(&error, FetchError::Unreachable { reason, .. } if reason.contains("broke")), "{error}");
    // The range is as long as it says, the file is not.
    let server = Server::new(|request, _| match request.range() {
        Some((0, _)) => Answer::new(206, &content(MIB))
            .with("content-range", &format!("bytes 0-{}/{}", MIB - 1, 2 * MIB))
            .with("etag", "\"v1\""),
        Some(_) => Answer::new(416, b""),
        None => Answer::new(200, &content(MIB)).with("content-length", &(2 * MIB).to_string()),
    });
    let error = fetch(&server.url("/f")).await.unwrap_err();
    assert!(error.is_unreachable(), "{error}");
}
