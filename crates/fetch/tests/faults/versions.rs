//! Files that change, before a transfer and during it.

use dozlab_fetch::{Expected, Outcome, Secrets, Validator};

use super::client::{fetch, fetch_with};
use super::server::{Answer, Server, content};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn a_file_that_changes_between_ranges_is_fetched_anew() {
    let old = content(4 * MIB);
    let new: Vec<u8> = old.iter().rev().copied().collect();
    let expected = new.clone();
    // The third request sees the new file.
    let server = Server::new(move |request, number| match number {
        0 | 1 => Answer::file(request, &old, "\"old\""),
        _ => Answer::file(request, &new, "\"new\""),
    });
    assert!(fetch(&server.url("/f")).await.unwrap() == expected);
}

#[tokio::test]
async fn a_server_that_passes_over_conditions_is_caught_by_its_tag() {
    let old = content(4 * MIB);
    let new: Vec<u8> = old.iter().rev().copied().collect();
    let expected = new.clone();
    let server = Server::new(move |request, number| {
        let (body, etag) = if number < 2 { (&old, "\"old\"") } else { (&new, "\"new\"") };
        let Some((first, last)) = request.range() else { return Answer::new(200, body).with("etag", etag) };
        let range = format!("bytes {first}-{last}/{}", body.len());
        Answer::new(206, &body[first..=last]).with("content-range", &range).with("etag", etag)
    });
    assert!(fetch(&server.url("/f")).await.unwrap() == expected);
}

#[tokio::test]
async fn of_a_file_that_never_rests_one_version_is_fetched_whole() {
    let body = content(4 * MIB);
    let version = move |number: usize| [&body[number * 4..], &body[..number * 4]].concat();
    let served = version.clone();
    let server =
        Server::new(move |request, number| Answer::file(request, &served(number), &format!("\"{number}\"")));
    let fetched = fetch(&server.url("/f")).await.unwrap();
    let last = server.requests().len() - 1;
    assert!(fetched == version(last), "it is of several versions");
}

#[tokio::test]
async fn a_known_version_is_not_transferred_again() {
    for honours_conditions in [true, false] {
        let body = content(3 * MIB);
        let server = Server::new(move |request, _| {
            if honours_conditions {
                return Answer::file(request, &body, "\"v1\"");
            }
            Answer::new(200, &body).with("etag", "\"v1\"")
        });
        let known = |tag: &str| Expected {
            known: Some(Validator { etag: Some(tag.into()), ..Validator::default() }),
            ..Expected::default()
        };
        let url = server.url("/f");
        let (outcome, bytes) = fetch_with(&url, &known("\"v1\""), Secrets::default()).await.unwrap();
        assert_eq!((outcome, bytes.len()), (Outcome::NotModified, 0));
        assert_eq!(server.requests().len(), 1);
        let (outcome, bytes) = fetch_with(&url, &known("\"v0\""), Secrets::default()).await.unwrap();
        assert!(matches!(outcome, Outcome::Fetched(_)) && bytes.len() == 3 * MIB, "{outcome:?}");
    }
}
