use proptest::prelude::*;

use super::*;

fn native(message: Message) -> Result<Option<FromClient>, BadMessage> {
    from_client(true, message)
}

fn json(text: &str) -> Result<Option<FromClient>, BadMessage> {
    from_client(false, Message::text(text))
}

fn text(message: Option<Message>) -> String {
    message.unwrap().into_text().unwrap().to_string()
}

#[test]
fn native_clients_type_in_binary_and_talk_about_it_in_text() {
    let bytes = Bytes::from_static(b"\x00\xff");
    assert_eq!(native(Message::Binary(bytes.clone())).unwrap(), Some(FromClient::Input(bytes)));
    let resize = native(Message::text(r#"{"type":"resize","cols":100,"rows":30}"#)).unwrap();
    assert_eq!(resize, Some(FromClient::Resize(TerminalSize { cols: 100, rows: 30 })));
    let ack = native(Message::text(r#"{"type":"ack","bytes":32768}"#)).unwrap();
    assert_eq!(ack, Some(FromClient::Shown(32768)));
    assert_eq!(native(Message::Ping(Bytes::new())).unwrap(), None);
}

#[test]
fn old_clients_do_both_in_text() {
    assert_eq!(json(r#"{"type":"input","data":"ü"}"#).unwrap(), Some(FromClient::Input("ü".into())));
    let with_extras = json(r#"{"type":"resize","data":"","rows":40,"cols":120}"#).unwrap();
    assert_eq!(with_extras, Some(FromClient::Resize(TerminalSize { cols: 120, rows: 40 })));
    assert_eq!(json(r#"{"type":"input"}"#).unwrap(), Some(FromClient::Input(Bytes::new())));
    assert!(matches!(from_client(false, Message::Binary(Bytes::new())), Err(BadMessage::Binary)));
}

#[test]
fn messages_that_make_no_sense_are_refused() {
    for text in ["", "{}", "[]", r#"{"type":"ack"}"#, r#"{"type":"ack","bytes":-1}"#, r#"{"type":"run"}"#] {
        assert!(matches!(native(Message::text(text)), Err(BadMessage::Json(_))), "{text}");
        assert!(matches!(json(text), Err(BadMessage::Json(_))), "{text}");
    }
}

#[test]
fn sizes_stay_within_reason() {
    for (cols, rows, expected) in [
        (None, None, (80, 24)),
        (Some(0), Some(0), (80, 24)),
        (Some(132), None, (132, 24)),
        (Some(u32::MAX), Some(u32::MAX), (MAX_SIDE, MAX_SIDE)),
    ] {
        let size = terminal_size(cols, rows);
        assert_eq!((size.cols, size.rows), expected);
    }
}

#[test]
fn notices_have_the_documented_form() {
    let status = Notice::Status { state: "booting", message: "the machine is starting".to_owned() };
    for (notice, expected) in [
        (status, r#"{"type":"status","state":"booting","message":"the machine is starting"}"#),
        (Notice::Typed(5), r#"{"type":"ack","bytes":5}"#),
        (Notice::Ended(ShellEnd::Exited(3)), r#"{"type":"exit","status":3,"signal":null}"#),
        (
            Notice::Ended(ShellEnd::Killed("HUP".to_owned())),
            r#"{"type":"exit","status":null,"signal":"HUP"}"#,
        ),
        (Notice::Ended(ShellEnd::Closed), r#"{"type":"exit","status":null,"signal":null}"#),
        (Notice::Error("no".to_owned()), r#"{"type":"error","message":"no"}"#),
    ] {
        assert_eq!(text(Protocol::Native.notice(&notice)), expected);
    }
    let error = Protocol::json().notice(&Notice::Error("no".to_owned()));
    assert_eq!(text(error), r#"{"type":"error","data":"no"}"#);
    assert!(Protocol::json().notice(&Notice::Typed(5)).is_none());
}

#[test]
fn output_for_old_clients_waits_for_whole_characters() {
    let mut protocol = Protocol::json();
    assert!(protocol.output(Bytes::from_static(b"\xf0\x9f")).is_none());
    let output = protocol.output(Bytes::from_static(b"\x9a\x80\x1b[0m\xe6"));
    assert_eq!(text(output), "{\"type\":\"output\",\"data\":\"🚀\\u001b[0m\"}");
}

proptest! {
    #[test]
    fn no_text_makes_either_protocol_panic(text in ".{0,80}") {
        let _ = native(Message::text(text.clone()));
        let _ = json(&text);
    }
}
