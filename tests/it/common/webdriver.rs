//! Client that drives a real browser over the WebDriver protocol (W3C WebDriver level 2) of chromedriver:
//! plain HTTP and JSON, which needs no other program and no library.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::{Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

/// Time to wait for events that should happen soon, on a machine that is busy with other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// Number of browsers that may still be started. Several can run at once because a test mostly waits for the page.
static FREE: Mutex<u32> = Mutex::new(3);

/// Notified when a browser has ended.
static ENDED: Condvar = Condvar::new();

/// Permission to run one browser.
struct BrowserPermit;

impl BrowserPermit {
    fn take() -> BrowserPermit {
        let free = FREE.lock().unwrap();
        *ENDED.wait_while(free, |free| *free == 0).unwrap() -= 1;
        BrowserPermit
    }
}

impl Drop for BrowserPermit {
    fn drop(&mut self) {
        *FREE.lock().unwrap() += 1;
        ENDED.notify_one();
    }
}

/// Starts chromedriver; returns it and its port. It takes a free port of IPv4 and ends if another program has the same
/// port of IPv6, so it is started again in that case.
fn start_driver(program: &str) -> std::io::Result<(Child, u16)> {
    for _ in 0..10 {
        let mut driver = Command::new(program)
            .arg("--port=0")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut lines = BufReader::new(driver.stdout.take().unwrap());
        let mut line = String::new();
        while lines.read_line(&mut line)? > 0 {
            if let Some((_, rest)) = line.split_once("successfully on port ") {
                let port = rest.trim().trim_end_matches('.').parse().unwrap();
                std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
                return Ok((driver, port));
            }
            line.clear();
        }
        driver.wait()?;
    }
    panic!("{program} ended ten times before it said its port");
}

/// A headless Chromium with one window. Dropping this value ends Chromium.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _permit: BrowserPermit,
}

impl Browser {
    /// Starts a browser as soon as few enough are running. Returns `None`, and reports the skip, if this
    /// machine has no browser. With CI=true a missing browser is a failure, unless LUAT_OTA_NO_BROWSER=1.
    pub fn start(test: &str) -> Option<Browser> {
        let permit = BrowserPermit::take();
        let set = |name: &str, to: &str| std::env::var(name).as_deref() == Ok(to);
        let skip = |why: &str| {
            // Written to stderr directly, because the test harness hides the output of tests that pass.
            let line = format!("skipped: {test}: {why}\n");
            let _ = std::io::stderr().write_all(line.as_bytes());
        };
        if set("LUAT_OTA_NO_BROWSER", "1") {
            skip("LUAT_OTA_NO_BROWSER=1");
            return None;
        }
        let program = std::env::var("CHROMEDRIVER").unwrap_or("chromedriver".to_owned());
        let (driver, port) = match start_driver(&program) {
            Ok(started) => started,
            Err(error) => {
                assert!(
                    !set("CI", "true"),
                    "no browser: {program}: {error}; apt-get install chromium chromium-driver"
                );
                skip("no chromedriver here (apt-get install chromium chromium-driver)");
                return None;
            }
        };
        let mut browser = Browser {
            driver,
            port,
            session: String::new(),
            _permit: permit,
        };
        let arguments = [
            "--headless=new",
            // No sandbox is available in a container or for root. Only the server's own page is opened.
            "--no-sandbox",
            "--disable-dev-shm-usage",
            "--disable-gpu",
            "--hide-scrollbars",
            "--force-color-profile=srgb",
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": { "args": arguments },
        }}});
        // Debian has separate packages for the driver and the browser.
        let session = match browser.request("POST", "/session", Some(&wanted)) {
            Ok(session) => session,
            Err(error) => {
                assert!(!set("CI", "true"), "no browser: {error}");
                skip(error.lines().next().unwrap_or_default());
                return None;
            }
        };
        browser.session = format!("/session/{}", session["sessionId"].as_str().unwrap());
        Some(browser)
    }

    /// Runs one command. The error is the browser's message.
    fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value, String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).map_err(|e| e.to_string())?;
        stream.set_read_timeout(Some(PATIENCE * 2)).unwrap();
        let body = body.map(Value::to_string).unwrap_or_default();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.port,
            body.len()
        )
        .map_err(|e| e.to_string())?;
        let mut reply = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reply.read_line(&mut line).map_err(|e| e.to_string())?;
            let line = line.trim_end().to_ascii_lowercase();
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            if line.is_empty() {
                break;
            }
        }
        let mut bytes = vec![0; length];
        reply.read_exact(&mut bytes).map_err(|e| e.to_string())?;
        let mut reply: Value = serde_json::from_slice(&bytes).map_err(|e| e.to_string())?;
        let value = reply["value"].take();
        match value.get("error") {
            Some(error) if value.get("stacktrace").is_some() => {
                Err(format!("{path}: {error}: {}", value["message"]))
            }
            _ => Ok(value),
        }
    }

    fn post(&self, path: &str, body: Value) -> Value {
        self.request("POST", &format!("{}{path}", self.session), Some(&body))
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// Runs a command of the Chrome DevTools Protocol.
    pub fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.post(
            "/goog/cdp/execute",
            json!({ "cmd": command, "params": parameters }),
        )
    }

    /// Sets the size of the window in CSS pixels. A window less than 600 wide is a phone with a touch screen.
    pub fn size(&self, width: u32, height: u32) {
        self.devtools(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 }),
        );
    }

    /// Sets the colour scheme that the system prefers: `light` or `dark`.
    pub fn scheme(&self, scheme: &str) {
        self.devtools(
            "Emulation.setEmulatedMedia",
            json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] }),
        );
    }

    /// Sets the language that the user prefers, for pages opened from now on.
    pub fn language(&self, tag: &str) {
        let agent = self.js("return navigator.userAgent", json!([]));
        self.devtools(
            "Emulation.setUserAgentOverride",
            json!({ "userAgent": agent, "acceptLanguage": tag }),
        );
    }

    /// Loads a page, even if only the fragment of the address differs.
    pub fn open(&self, url: &str) {
        self.post("/url", json!({ "url": "about:blank" }));
        self.post("/url", json!({ "url": url }));
    }

    /// Runs the body of a function in the page.
    pub fn js(&self, script: &str, arguments: Value) -> Value {
        self.post(
            "/execute/sync",
            json!({ "script": script, "args": arguments }),
        )
    }

    /// Runs a script until it returns a true value; fails with `what` and the text of the page.
    pub fn wait(&self, what: &str, script: &str, arguments: Value) -> Value {
        let end = Instant::now() + PATIENCE;
        loop {
            let value = self.js(script, arguments.clone());
            match &value {
                Value::Null | Value::Bool(false) => {}
                Value::String(text) if text.is_empty() => {}
                _ => return value,
            }
            if Instant::now() > end {
                panic!(
                    "within {PATIENCE:?} not so: {what}; the page shows:\n{}\nits console:\n{}",
                    self.text("body"),
                    self.console().join("\n")
                );
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The visible text of the first element that matches a selector.
    pub fn text(&self, css: &str) -> String {
        let script = "const e = document.querySelector(arguments[0]); return e ? e.innerText : ''";
        let text = self.js(script, json!([css]));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until an element that matches the selector shows this text.
    pub fn wait_text(&self, css: &str, text: &str) {
        let script = "return [...document.querySelectorAll(arguments[0])].some((e) => e.innerText.includes(arguments[1]))";
        self.wait(&format!("{text:?} in {css}"), script, json!([css, text]));
    }

    fn element(&self, css: &str) -> String {
        let script =
            "return [...document.querySelectorAll(arguments[0])].some((e) => e.checkVisibility())";
        self.wait(&format!("{css} is there"), script, json!([css]));
        let found = self.post("/element", json!({ "using": "css selector", "value": css }));
        let id = found.as_object().and_then(|found| found.values().next());
        id.and_then(Value::as_str).unwrap().to_owned()
    }

    /// Clicks as a person does: the element must be visible, after scrolling if needed, and not covered by another.
    pub fn click(&self, css: &str) {
        // The page may redraw a card between the search and the click. A person would click again, too.
        for last in [false, false, false, true] {
            let path = format!("{}/element/{}/click", self.session, self.element(css));
            match self.request("POST", &path, Some(&json!({}))) {
                Ok(_) => return,
                Err(error) if !last && error.contains("stale element") => {}
                // Or scroll, if the bar at the lower edge of a phone covers the element.
                Err(error) if !last && error.contains("click intercepted") => {
                    let script = "
                        const element = document.querySelector(arguments[0]);
                        if (!element) return false;
                        element.scrollIntoView({ block: 'center' });
                        const { left, top, width, height } = element.getBoundingClientRect();
                        return element.contains(document.elementFromPoint(left + width / 2, top + height / 2));";
                    self.wait(&format!("nothing lies over {css}"), script, json!([css]));
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Replaces the content of a field by typing.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("/element/{element}/clear"), json!({}));
        self.post(
            &format!("/element/{element}/value"),
            json!({ "text": text }),
        );
    }

    /// Presses one key (WebDriver section 17.4.2 lists the code points of keys without a letter).
    pub fn key(&self, key: char) {
        self.post(
            "/actions",
            json!({ "actions": [{ "type": "key", "id": "keyboard", "actions": [
                { "type": "keyDown", "value": key.to_string() },
                { "type": "keyUp", "value": key.to_string() },
            ] }] }),
        );
    }

    /// Messages that the page wrote to the console since the last call.
    pub fn console(&self) -> Vec<String> {
        let entries = self.post("/se/log", json!({ "type": "browser" }));
        let entries = entries.as_array().cloned().unwrap_or_default();
        entries
            .iter()
            .map(|entry| format!("{} {}", entry["level"], entry["message"]))
            .collect()
    }

    /// A screenshot of the window as a PNG.
    pub fn screenshot(&self) -> Vec<u8> {
        let path = format!("{}/screenshot", self.session);
        let text = self.request("GET", &path, None).unwrap();
        base64(text.as_str().unwrap())
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Ends Chromium and removes its folder; then ends the driver by its process id.
        if !self.session.is_empty() {
            let _ = self.request("DELETE", &self.session, None);
        }
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

/// Decodes base64 (RFC 4648 section 4).
fn base64(text: &str) -> Vec<u8> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for digit in text.bytes() {
        let Some(value) = DIGITS.iter().position(|known| *known == digit) else {
            continue;
        };
        bits = bits << 6 | value as u32;
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    bytes
}
