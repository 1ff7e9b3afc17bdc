//! Tests of the appearance of the page in a real browser (see browser.rs): languages, themes, phones, keyboards
//! and screen readers. LUAT_OTA_SCREENSHOTS=1 takes the pictures of the README.
#![cfg(feature = "operator")]

use crate::common;

use std::time::Duration;

use common::Place;
use common::browser_session::{
    BrowserSession, LONG_PROJECT, VIEWS, a_busy_fleet, a_full_folder, card, each_view,
};
use serde_json::json;

#[test]
fn the_page_has_the_language_of_the_browser_and_remembers_another() {
    let Some(session) = BrowserSession::open("both languages", |_| {}) else {
        return;
    };
    let browser = &session.browser;
    browser.wait_text("h1", "Releases");
    browser.language("zh-CN,zh");
    browser.open(&session.url(""));
    browser.wait_text("h1", "版本");
    let lang = "return document.documentElement.lang";
    assert_eq!(browser.js(lang, json!([])), "zh-CN");
    for view in VIEWS {
        session.go(&format!("#/{view}"));
        browser.wait("the view is there", "return document.querySelector('main').dataset.view === arguments[0] && document.querySelector('h1')", json!([view]));
        let heading = browser.text("h1");
        assert!(!heading.is_ascii(), "{view} is headed {heading:?}");
    }
    browser.click("#lang");
    browser.wait_text("h1", "Upload");
    browser.open(&session.url(""));
    browser.wait_text("h1", "Releases");
    assert_eq!(browser.js(lang, json!([])), "en");
    session.assert_console_empty();
}

#[test]
fn no_view_is_wider_than_a_phone_of_360_pixels() {
    let Some(session) = BrowserSession::open("360 pixels", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&session.server);
    // Not innerWidth: a phone widens its window for content that does not fit.
    let wide = "
        const root = document.documentElement;
        document.querySelectorAll('details').forEach((e) => { e.open = true; });
        const out = [...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() && !e.closest('pre, .skip, .symbols') && e.getBoundingClientRect().right > 360.5);
        return (root.scrollWidth > 360 ? [root.scrollWidth + ' pixels'] : []).concat(out.map((e) => e.tagName + '.' + e.className + ' ' + e.textContent.slice(0, 40)));";
    let small = "
        const out = [...document.querySelectorAll('button, select, input:not([type=checkbox]):not([type=range]):not([type=file]), nav a, summary, label.check')].filter((e) => e.checkVisibility() && e.getBoundingClientRect().height < 43.5);
        return out.map((e) => e.tagName + ' ' + e.textContent);";
    for language in ["en-GB,en", "zh-CN,zh"] {
        session.browser.size(360, 740);
        session.browser.language(language);
        session.browser.open(&session.url(""));
        each_view(&session, |view| {
            let found = session.browser.js(wide, json!([]));
            assert_eq!(
                found,
                json!([]),
                "{view} in {language} is wider than the window"
            );
            let found = session.browser.js(small, json!([]));
            assert_eq!(
                found,
                json!([]),
                "{view} in {language}: too small for a finger"
            );
        });
    }
    session.assert_console_empty();
}

/// Script that returns the texts with less contrast than WCAG 2.2 (1.4.3) requires: 4.5 to 1, or 3 to 1 for large
/// text.
pub const CONTRAST: &str = "
    const channel = (v) => { v /= 255; return v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; };
    const light = ([r, g, b]) => 0.2126 * channel(r) + 0.7152 * channel(g) + 0.0722 * channel(b);
    const colour = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
    const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3]));
    const ground = (e) => {
        const layers = [];
        for (; e; e = e.parentElement) layers.push(colour(getComputedStyle(e).backgroundColor));
        return layers.reverse().reduce((under, top) => over(top, under), [255, 255, 255]);
    };
    const bad = [];
    let seen = 0;
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
        const e = walk.currentNode.parentElement;
        if (!walk.currentNode.data.trim() || !e.checkVisibility({ visibilityProperty: true }) || e.closest('.skip, :disabled, .visually-hidden')) continue;
        const style = getComputedStyle(e);
        const under = ground(e);
        const text = over(colour(style.color), under);
        const [a, b] = [light(text), light(under)].sort((x, y) => y - x);
        const size = parseFloat(style.fontSize);
        const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
        const ratio = (a + 0.05) / (b + 0.05);
        seen += 1;
        if (ratio < least) bad.push(`${ratio.toFixed(2)} ${e.tagName}.${e.className}: ${walk.currentNode.data.slice(0, 30)}`);
    }
    return seen > 8 ? bad : ['only ' + seen + ' texts were seen'];";

#[test]
fn text_can_be_read_in_both_themes() {
    let Some(session) = BrowserSession::open("contrast", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&session.server);
    for theme in ["light", "dark"] {
        session.browser.scheme(theme);
        let now = "return document.documentElement.dataset.theme === arguments[0]";
        session
            .browser
            .wait("the theme follows the system", now, json!([theme]));
        each_view(&session, |view| {
            let found = session.browser.js(CONTRAST, json!([]));
            assert_eq!(found, json!([]), "{view}, {theme}");
        });
    }
    // The button for the theme overrides the system's setting, and the choice is stored.
    session.browser.click("#theme");
    session.browser.open(&session.url(""));
    let light = "return document.documentElement.dataset.theme === 'light'";
    session
        .browser
        .wait("the theme was chosen", light, json!([]));
    session.assert_console_empty();
}

#[test]
fn everything_can_be_reached_with_the_keyboard() {
    const TAB: char = '\u{E004}';
    let Some(session) = BrowserSession::open("keyboard", a_full_folder) else {
        return;
    };
    session.browser.wait_text(&card("ALIYUN", "2.0.1"), "Live");
    let all = "
        const all = [...document.querySelectorAll('a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary')].filter((e) => e.checkVisibility());
        const unnamed = all.filter((e) => !(e.textContent.trim() || e.getAttribute('aria-label') || (e.labels && e.labels.length)));
        return unnamed.length ? unnamed.map((e) => e.outerHTML) : all.length;";
    let step = "
        const e = document.activeElement;
        if (e === document.body) return null;
        e.dataset.reached = '1';
        const ring = e.id === 'choose' ? document.querySelector('.zone') : e;
        const style = getComputedStyle(ring);
        return style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2 ? 'ring' : 'no ring: ' + e.outerHTML.slice(0, 100);";
    let missed = "
        return [...document.querySelectorAll('a[href], button:not(:disabled), input:not(:disabled), select, textarea, summary')]
            .filter((e) => e.checkVisibility() && !e.dataset.reached).map((e) => e.outerHTML.slice(0, 120));";
    each_view(&session, |view| {
        let count = session.browser.js(all, json!([]));
        let count = count
            .as_u64()
            .unwrap_or_else(|| panic!("{view}: without a name: {count}"));
        session
            .browser
            .js("document.activeElement.blur(); scrollTo(0, 0)", json!([]));
        for _ in 0..count + 8 {
            session.browser.key(TAB);
            let ring = session.browser.js(step, json!([]));
            assert!(ring.is_null() || ring == "ring", "{view}: {ring}");
        }
        let missed = session.browser.js(missed, json!([]));
        assert_eq!(missed, json!([]), "{view}: not reached with Tab");
    });
    // A dialog keeps the focus, and Escape closes the dialog without an action.
    session.go("#/releases");
    session
        .browser
        .click(&format!("{} [data-key=pause]", card("ALIYUN", "2.0.1")));
    session.browser.wait_text("dialog", "Pause ALIYUN 2.0.1?");
    session.browser.key('\u{E00C}');
    let closed = "return !document.querySelector('dialog').open && document.activeElement.dataset.key === 'pause'";
    session.browser.wait(
        "the dialog is closed and the focus is back",
        closed,
        json!([]),
    );
    let landmarks = "return ['header', 'nav[aria-label]', 'main', 'footer', 'h1', '[role=status][aria-live=polite]'].filter((css) => !document.querySelector(css))";
    assert_eq!(session.browser.js(landmarks, json!([])), json!([]));
    session.assert_console_empty();
}

#[test]
fn every_element_has_a_name_for_a_screen_reader() {
    // Roles that need a name (WAI-ARIA 1.2, "Accessible Name Required").
    const NAMED: [&str; 14] = [
        "button",
        "link",
        "textbox",
        "searchbox",
        "combobox",
        "checkbox",
        "slider",
        "spinbutton",
        "progressbar",
        "image",
        "heading",
        "article",
        "navigation",
        "dialog",
    ];
    let Some(session) = BrowserSession::open("screen reader", a_full_folder) else {
        return;
    };
    let _running = a_busy_fleet(&session.server);
    session.browser.devtools("Accessibility.enable", json!({}));
    each_view(&session, |view| {
        let tree = session
            .browser
            .devtools("Accessibility.getFullAXTree", json!({}));
        let nodes: Vec<(&str, &str)> = tree["nodes"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|node| node["ignored"] == false)
            .map(|node| {
                let text = |key: &str| node[key]["value"].as_str().unwrap_or_default();
                (text("role"), text("name").trim())
            })
            .collect();
        let nameless: Vec<_> = nodes
            .iter()
            .filter(|(role, name)| NAMED.contains(role) && name.is_empty())
            .collect();
        assert!(nameless.is_empty(), "{view}: {nameless:?}");
        let has = |role: &str| nodes.iter().any(|(other, _)| *other == role);
        for role in ["main", "banner", "navigation", "heading", "status"] {
            assert!(has(role), "{view} has no {role}");
        }
        let special = match view {
            "releases" => "article",
            "live" => "progressbar",
            "devices" => "combobox",
            _ => "textbox",
        };
        assert!(view == "device" || has(special), "{view} has no {special}");
    });
}

#[test]
fn the_pictures_of_the_readme_are_taken() {
    if std::env::var("LUAT_OTA_SCREENSHOTS").as_deref() != Ok("1") {
        return;
    }
    let prepare = |place: &Place| {
        a_full_folder(place);
        std::fs::remove_dir_all(place.path("").join(LONG_PROJECT)).unwrap();
    };
    let Some(session) = BrowserSession::open("pictures", prepare) else {
        return;
    };
    let browser = &session.browser;
    let mut running = a_busy_fleet(&session.server);
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/images");
    std::fs::create_dir_all(&folder).unwrap();
    let mut take = |name: &str, scheme: &str| {
        browser.scheme(scheme);
        // Wait until messages have disappeared and animations have ended.
        let rest = "return document.querySelector('#toast').textContent === ''";
        browser.wait("nothing is said", rest, json!([]));
        for download in &mut running {
            download.read(16 * 1024).unwrap();
        }
        std::thread::sleep(Duration::from_millis(1500));
        let png = browser.screenshot();
        assert!(png.len() < 150_000, "{name} has {} bytes", png.len());
        std::fs::write(folder.join(name), png).unwrap();
    };
    for code in ["en", "zh"] {
        if code == "zh" {
            browser.js("document.querySelector('#lang').click()", json!([]));
        }
        browser.size(1180, 780);
        session.go("#/releases");
        browser.wait_text("main", "FOTA2_DEMO");
        let loading = if code == "en" {
            "downloading"
        } else {
            "下载中"
        };
        browser.wait_text(&card("ALIYUN", "2.0.2"), loading);
        take(&format!("releases-{code}.png"), "light");
        browser.size(360, 720);
        each_view(&session, |view| match view {
            "live" => {
                browser.js(
                    "document.querySelector('.downloads').scrollIntoView({ block: 'center' })",
                    json!([]),
                );
                take(&format!("live-{code}.png"), "dark");
            }
            "device" => take(&format!("device-{code}.png"), "light"),
            "explain" => {
                browser.js(
                    "document.querySelector('.verdict').scrollIntoView()",
                    json!([]),
                );
                take(&format!("explain-{code}.png"), "light");
            }
            _ => {}
        });
    }
}
