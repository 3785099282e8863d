use super::*;
use crate::access::Secret;

fn editor(public_url: Option<&str>) -> Editor {
    Editor::new(EditorConfig {
        url: "http://127.0.0.1:8080".parse().unwrap(),
        public_url: public_url.map(|url| url.parse().unwrap()),
        password: Secret::new("hush-hush"),
        failure_file: None,
    })
}

fn request(pairs: &[(&'static str, &str)]) -> HeaderMap {
    pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
}

fn public_url(editor: &Editor, pairs: &[(&'static str, &str)]) -> Option<String> {
    editor.public_url(&request(pairs)).map(|url| url.to_string())
}

#[test]
fn the_browser_finds_the_editor_where_it_found_the_terminal() {
    let editor = editor(None);
    for (host, expected) in [
        ("127.0.0.1:8081", "http://127.0.0.1:8080/"),
        ("lab.example", "http://lab.example:8080/"),
        ("[::1]:8081", "http://[::1]:8080/"),
    ] {
        assert_eq!(public_url(&editor, &[("host", host)]).as_deref(), Some(expected));
    }
    let by_tls = [("host", "lab.example"), ("x-forwarded-proto", "https")];
    assert_eq!(public_url(&editor, &by_tls).as_deref(), Some("https://lab.example:8080/"));
    assert_eq!(public_url(&editor, &[]), None);
}

#[test]
fn the_editors_public_address_stands_whatever_the_host() {
    let editor = editor(Some("https://edit.example/s/1/"));
    assert_eq!(public_url(&editor, &[("host", "x")]).as_deref(), Some("https://edit.example/s/1/"));
}

#[test]
fn a_relayed_cookie_keeps_its_value_and_path_and_loses_the_rest() {
    for (cookie, expected) in [
        ("a=b", Some("a=b; Path=/; HttpOnly; SameSite=Lax")),
        ("a=b=c; path=/x; Domain=evil; SameSite=None", Some("a=b=c; Path=/x; HttpOnly; SameSite=Lax")),
        ("nonsense", None),
    ] {
        let cookie = HeaderValue::from_str(cookie).unwrap();
        assert_eq!(relayed_cookie(&cookie, false).as_deref(), expected);
    }
}

#[test]
fn the_password_travels_as_a_form_and_nowhere_else() {
    let request = editor(None).login_request(&"lab.example:8080".parse().unwrap());
    assert_eq!(request.uri(), "/login");
    assert_eq!(request.headers()[HOST], "lab.example:8080");
    assert!(!format!("{:?}", request.headers()).contains("hush"));
}
