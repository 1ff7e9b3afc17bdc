//! Promise: the recipes of docs/events.md work: group robots, MQTT, and the stream for machines on which no program
//! can be started.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};

use super::common::documents::ROOT;
use super::*;

/// The commands of `--on-event` in a document, in order.
pub fn commands(document: &str) -> Vec<String> {
    let text = documents::read(document);
    let rests = text.split("--on-event '").skip(1);
    rests
        .map(|rest| rest.split('\'').next().unwrap().to_owned())
        .collect()
}

/// The command in docs/events.md that contains this text.
fn recipe(part: &str) -> String {
    let commands = commands("docs/events.md");
    let found = commands.iter().find(|command| command.contains(part));
    found
        .unwrap_or_else(|| panic!("{part} is not in {commands:?}"))
        .clone()
}

/// Accepts one HTTP request and replies to it. Returns the head and body of the request.
fn answer_one(listener: &TcpListener, body: &str) -> (String, String) {
    let (stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut reader = BufReader::new(stream);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        head.push_str(&line);
    }
    let mut bytes = vec![0; length];
    reader.read_exact(&mut bytes).unwrap();
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    reader.into_inner().write_all(reply.as_bytes()).unwrap();
    (head, String::from_utf8(bytes).unwrap())
}

const EVENT: &str = "{\"event\":\"held\",\"time\":\"2026-11-29T08:00:00Z\",\"project\":\"水表\",\
                     \"version\":\"2.0.0\",\"device\":\"862991443753386\",\"name\":\"pump 7\",\"reason\":\"a \\\"reason\\\"\"}\n";

/// Runs a command, split as the server splits it, with an event on its standard input.
fn run_with_event(command: &str) -> std::process::ExitStatus {
    let mut words = command.split_whitespace();
    let mut child = Command::new(words.next().unwrap())
        .args(words)
        .current_dir(ROOT)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that fails may not read its standard input.
    let mut stdin = child.stdin.take().unwrap();
    let _unread = stdin.write_all(EVENT.as_bytes());
    drop(stdin);
    common::wait_for_exit(&mut child, PATIENCE).expect("the program did not end")
}

#[test]
fn the_webhook_sends_what_each_robot_accepts_and_fails_if_it_refuses() {
    let text = "luat-ota held 水表 2.0.0 862991443753386 pump 7 a \"reason\"";
    let tail = json!({"msgtype": "text", "text": {"content": text}});
    let feishu = json!({"msg_type": "text", "content": {"text": text}});
    let place = Place::new();
    let recipe = recipe("webhook.sh wecom");
    for (kind, reply, message, is_taken) in [
        ("wecom", r#"{"errcode":0,"errmsg":"ok"}"#, &tail, true),
        ("dingtalk", r#"{"errcode":0,"errmsg":"ok"}"#, &tail, true),
        (
            "feishu",
            r#"{"StatusCode":0,"StatusMessage":"success","code":0,"data":{},"msg":"success"}"#,
            &feishu,
            true,
        ),
        (
            "wecom",
            r#"{"errcode":93000,"errmsg":"invalid webhook url"}"#,
            &tail,
            false,
        ),
        (
            "dingtalk",
            r#"{"errcode":310000,"errmsg":"keywords not in content"}"#,
            &tail,
            false,
        ),
        (
            "feishu",
            r#"{"code":19001,"data":{},"msg":"param invalid: incoming webhook access token invalid"}"#,
            &feishu,
            false,
        ),
        ("feishu", "", &feishu, false),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = place.root.join("webhook");
        std::fs::write(&file, format!("http://{address}/send?key=a-b_c&x=1\n")).unwrap();
        let stub = std::thread::spawn(move || answer_one(&listener, reply));
        let command = recipe
            .replace("wecom", kind)
            .replace("/etc/luat-ota/webhook", file.to_str().unwrap());
        let status = run_with_event(&command);
        let (head, body) = stub.join().unwrap();
        assert!(
            head.starts_with("POST /send?key=a-b_c&x=1 HTTP/1.1\r\n"),
            "{head}"
        );
        assert!(
            head.to_ascii_lowercase()
                .contains("content-type: application/json\r\n"),
            "{head}"
        );
        assert_eq!(
            serde_json::from_str::<Value>(&body).unwrap(),
            *message,
            "{kind}"
        );
        assert_eq!(status.success(), is_taken, "{kind} {reply}");
    }
    assert_eq!(
        run_with_event("packaging/events/webhook.sh slack x").code(),
        Some(2)
    );
    let nobody = recipe.replace("/etc/luat-ota/webhook", "/nonexistent/webhook");
    assert!(!run_with_event(&nobody).success());
}

#[test]
fn the_recipe_for_mqtt_passes_each_event_to_mosquitto_pub() {
    let place = Place::new();
    place.drop_firmware("P/1.0.0/update.bin", &noise(77, 5000));
    let out = place.root.join("published");
    // A substitute for the program of that name, which the machine need not have.
    let stub = format!("{{ printf '%s ' \"$@\"; cat; }} >> '{}'", out.display());
    let program = script(&place, "mosquitto_pub", &stub);
    let folder = program.parent().unwrap().to_owned();
    let command = recipe("mosquitto_pub");
    let mut server = luat_ota();
    server.args(serve_arguments(&place, &["--on-event", &command]));
    let path = std::env::var("PATH").unwrap();
    server.env("PATH", format!("{}:{path}", folder.display()));
    let server = Server::from_command(place, &mut server);
    server.wait_until_refused(&luat("P", IMEI, "1.0.0"), 404, 27);
    server.drop_firmware("P/2.0.0/update.bin", &noise(78, 5000));
    let read = || std::fs::read_to_string(&out).unwrap_or_default();
    wait_until("it is published", PATIENCE, || read().ends_with('\n'));
    let published = read();
    let (arguments, event) = published.split_once('{').unwrap();
    let expected = command.strip_prefix("mosquitto_pub ").unwrap();
    assert_eq!(arguments.trim(), expected);
    let event: Value = serde_json::from_str(&format!("{{{event}")).unwrap();
    assert_eq!(
        (&event["event"], &event["version"]),
        (&json!("release_found"), &json!("2.0.0"))
    );
}

#[test]
fn follow_sh_starts_a_program_for_each_event_of_the_stream() {
    let place = Place::new();
    place.drop_firmware("P/1.0.0/update.bin", &noise(79, 5000));
    let (command, file) = recorder(&place);
    let server = Server::start_in(place, &[]);
    server.wait_until_refused(&luat("P", IMEI, "1.0.0"), 404, 27);
    let operator = Operator::of(&server);
    let token = server.place().state().join("read-token");
    let mut words = command.split(' ');
    let mut child = Command::new(Path::new(ROOT).join("packaging/events/follow.sh"))
        .arg(format!("http://{}", operator.address))
        .arg(token)
        .args([words.next().unwrap(), words.next().unwrap()])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let mut version = 1;
    wait_until("the event has come", PATIENCE, || {
        // Repeated until the stream is connected. Checks are not events.
        version += 1;
        server.drop_firmware(
            &format!("P/{version}.0.0/update.bin"),
            &noise(version, 5000),
        );
        std::thread::sleep(Duration::from_secs(1));
        server.get(&luat("P", IMEI, "1.0.0"));
        !recorded(&file).is_empty()
    });
    for event in recorded(&file) {
        assert_eq!(event["event"], "release_found");
    }
    // The stream, and with it curl and jq, ends with the server; the loop is then in its pause.
    server.terminate();
    child.kill().unwrap();
    child.wait().unwrap();
}
