//! A server with a browser that shows the operator page, and the contents that the page needs for tests.

use std::net::SocketAddr;

use serde_json::json;

use super::packages::{EC7XX, noise, script_package};
use super::webdriver::Browser;
use super::{Place, Server, SlowDownload, get, listens, luat};

pub const VIEWS: [&str; 5] = ["releases", "devices", "live", "explain", "drop"];

/// A server with a browser that shows the operator page.
pub struct BrowserSession {
    pub browser: Browser,
    pub server: Server,
    pub operator: SocketAddr,
    pub token: String,
}

impl BrowserSession {
    /// Starts both and opens the page in English. `prepare` may fill the folder first. Returns `None`
    /// if this machine has no browser.
    pub fn open(test: &str, prepare: impl Fn(&Place)) -> Option<BrowserSession> {
        BrowserSession::open_with(test, &[], prepare)
    }

    /// Like [`BrowserSession::open`], with these flags for the server.
    pub fn open_with(
        test: &str,
        flags: &[&str],
        prepare: impl Fn(&Place),
    ) -> Option<BrowserSession> {
        let browser = Browser::start(test)?;
        let place = Place::new();
        prepare(&place);
        let server = Server::start_in(place, flags);
        let operator = server.log.all();
        let operator = operator.iter().find_map(|line| listens(line, "operator"));
        let token = server.place().state().join("operator-token");
        let session = BrowserSession {
            token: std::fs::read_to_string(token).unwrap().trim().to_owned(),
            operator: operator.expect("the operator's side listens"),
            browser,
            server,
        };
        session.browser.size(1180, 800);
        session.browser.scheme("light");
        session.browser.language("en-GB,en");
        session
            .browser
            .open(&format!("{}#token={}", session.url(""), session.token));
        session.browser.wait(
            "the event stream is up",
            "return document.querySelector('#link.streaming') !== null",
            json!([]),
        );
        Some(session)
    }

    pub fn url(&self, hash: &str) -> String {
        format!("http://{}/{hash}", self.operator)
    }

    /// Switches to a view as a link would. The page is not loaded again.
    pub fn go(&self, hash: &str) {
        self.browser
            .js("location.hash = arguments[0]", json!([hash]));
    }

    /// Fails if anything was written to the console or a request has failed.
    pub fn assert_console_empty(&self) {
        let lines = self.browser.console();
        assert!(lines.is_empty(), "the console says:\n{}", lines.join("\n"));
    }

    /// Drops a file with these bytes onto an element, as the browser would.
    pub fn drop_file(&self, css: &str, name: &str, bytes: &[u8]) {
        let script = "
            const [css, name, bytes] = arguments;
            const data = new DataTransfer();
            data.items.add(new File([new Uint8Array(bytes)], name));
            const target = document.querySelector(css);
            for (const kind of ['dragenter', 'dragover', 'drop']) {
                target.dispatchEvent(new DragEvent(kind, { bubbles: true, cancelable: true, dataTransfer: data }));
            }";
        self.browser.js(script, json!([css, name, bytes]));
    }
}

/// Selector of a release's card in the releases view.
pub fn card(project: &str, version: &str) -> String {
    format!("article[aria-label=\"{project} {version}\"]")
}

pub const LONG_PROJECT: &str =
    "A-PROJECT-WITH-A-NAME-AS-LONG_PROJECT-AS-NAMES-CAN-GET-IN-THE-FIELD";

/// Fills a folder with releases in every state, long names and files that cannot be served.
pub fn a_full_folder(place: &Place) {
    for (path, seed) in [
        ("ALIYUN/2.0.2/update.bin", 20),
        ("ALIYUN/2.0.1/update.bin", 21),
        ("ALIYUN/2.0.0/update.bin", 22),
        ("WATER-METER/1.4.0/update.bin", 23),
        ("WATER-METER/1.3.9/update.bin", 24),
        (&format!("{LONG_PROJECT}/10.20.30/update.bin"), 25),
    ] {
        place.drop_firmware(path, &noise(seed, 486_120));
    }
    let luatools = "FOTA2_DEMO_2012.001.004_LuatOS-SoC_Air780EPM.bin";
    place.drop_firmware(luatools, &script_package(EC7XX, 26));
    place.rules(
        "ALIYUN/2.0.2/release.json",
        json!({ "percent": 60, "from": "1.9.0-2.0.1" }),
    );
    place.rules(
        "WATER-METER/1.4.0/release.json",
        json!({ "paused": "the field test in Hangzhou is not over", "allow": [super::IMEI] }),
    );
    place.drop_firmware(
        &format!("{LONG_PROJECT}/10.20.29/update.bin"),
        &noise(28, 3000),
    );
    place.drop_firmware(
        &format!("{LONG_PROJECT}/10.20.29/release.json"),
        b"{\"percent\": 10,}",
    );
    place.rules(
        "FOTA2_DEMO/release.json",
        json!({ "not_before": "2099-01-01T00:00:00+08:00" }),
    );
    place.drop_firmware(
        "ALIYUN/2.0.3/LuatOS-SoC_V2012_Air780EPM.soc",
        &noise(27, 900),
    );
    place.drop_firmware(
        "WATER-METER/1.4.1/update.bin",
        b"<!DOCTYPE html><html>404</html>",
    );
}

/// Makes modules check, download and return. Some downloads remain in progress, and are returned.
pub fn a_busy_fleet(server: &Server) -> Vec<SlowDownload> {
    let imei = |n: u64| (862_991_443_700_000 + n * 7919).to_string();
    let bytes = noise(21, 486_120);
    for path in ["ALIYUN/2.0.2/", "WATER-METER/1.4.0/"] {
        server.wait_for_log(&format!("offers {path}"), |line| {
            line.contains(path) && line.contains(" is available")
        });
    }
    server.wait_until_offered(&luat("ALIYUN", &imei(0), "1.0.0"), &bytes);
    for n in 0..24 {
        let from = ["2.0.0", "2.0.1", "1.9.8"][n as usize % 3];
        server.get(&luat("ALIYUN", &imei(n), from));
        if n % 4 != 0 {
            server.get(&luat("ALIYUN", &imei(n), "2.0.2"));
        }
        server.get(&luat("WATER-METER", &imei(100 + n), "1.3.9"));
    }
    server.get(&luat("NOTHING", &imei(200), "1.0.0"));
    (300..340)
        .map(|n| luat("ALIYUN", &imei(n), "2.0.0"))
        .filter(|target| server.get(target).status == 200)
        .take(4)
        .map(|target| SlowDownload::begin(server.http, &get(&target), 60_000))
        .collect()
}

/// Opens each view in turn, with as much content as it can show.
pub fn each_view(session: &BrowserSession, mut look: impl FnMut(&str)) {
    for view in VIEWS {
        session.go(&format!("#/{view}"));
        session.browser.wait(
            "the view is there",
            "return document.querySelector('main').dataset.view === arguments[0] && document.querySelector('h1') !== null",
            json!([view]),
        );
        match view {
            "releases" => {
                session.browser.wait_text(".quarantined", ".soc");
                session.browser.wait_text("main", "2012.001.004");
            }
            // The page has requested the devices and has received them.
            "devices" => {
                let listed =
                    "return document.querySelector('main > p[role=status]').textContent !== ''";
                session
                    .browser
                    .wait("the devices are listed", listed, json!([]));
            }
            "live" => session.browser.wait_text(".rates", "60 "),
            "explain" => {
                session
                    .browser
                    .fill("#request", &luat("ALIYUN", super::IMEI, "1.0.0"));
                session.browser.click("form:first-child [type=submit]");
                session.browser.wait_text(".verdict .notes", "ALIYUN");
            }
            "drop" => {
                for name in [
                    "core.binpkg",
                    "FOTA2_DEMO_2012.001.005_LuatOS-SoC_Air780EPM.bin",
                ] {
                    session.drop_file("main", name, &script_package(EC7XX, 30));
                }
                session.browser.wait_text(".file .upload", "");
            }
            _ => {}
        }
        look(view);
        if view == "devices" {
            // Not the first device: the order of devices of the same second is undefined.
            let one = "
                const devices = [...document.querySelectorAll('.device')];
                const a = devices.find((device) => device.textContent.includes('ALIYUN'));
                if (a) a.click();
                return a !== undefined;";
            if session.browser.js(one, json!([])) == true {
                session.browser.wait_text(".facts", "ALIYUN");
                look("device");
            }
        }
    }
}
