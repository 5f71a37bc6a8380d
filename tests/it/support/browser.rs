//! A real browser, as people have it: Debian's Chromium without a window.

use std::{
    process::{Child, Command, Stdio},
    time::Duration,
};

use fantoccini::{Client, ClientBuilder, Locator};
use serde_json::json;
use tempfile::TempDir;

use photogate::{
    access::{self, Role},
    ids::OrganisationId,
};

use super::{App, root, site::Site};

/// The driver, ended with the test.
struct Driver {
    process: Child,
    port: u16,
    profile: TempDir,
}

impl Driver {
    async fn start() -> Self {
        loop {
            // A port that is free now may be somebody else's in a moment: then another one.
            let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
            let port = free.local_addr().expect("bound").port();
            drop(free);
            let process = Command::new("chromedriver")
                .arg(format!("--port={port}"))
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .expect("chromedriver is installed: run make setup");
            let profile = tempfile::tempdir().expect("a directory");
            let mut driver = Self { process, port, profile };
            while driver.process.try_wait().expect("it is ours").is_none() {
                if reqwest::get(format!("http://127.0.0.1:{port}/status")).await.is_ok() {
                    return driver;
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A browser with a person in front of it.
pub struct Browser {
    pub page: Client,
    site: String,
    name: &'static str,
    _driver: Driver,
}

/// How it looks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub width: u32,
    pub height: u32,
    pub dark: bool,
}

pub const DESK: Look = Look { width: 1200, height: 1000, dark: false };
pub const PHONE: Look = Look { width: 420, height: 900, dark: true };

impl Browser {
    /// `name` is that of its screenshots.
    pub async fn open(site: &Site, name: &'static str, look: Look) -> Self {
        let driver = Driver::start().await;
        let mut arguments = vec![
            "--headless=new".to_owned(),
            "--no-sandbox".into(),
            "--disable-gpu".into(),
            "--disable-dev-shm-usage".into(),
            "--no-first-run".into(),
            "--disable-background-networking".into(),
            "--disable-component-update".into(),
            "--disable-sync".into(),
            "--disable-quic".into(),
            format!("--window-size={},{}", look.width, look.height),
            format!("--user-data-dir={}", driver.profile.path().display()),
        ];
        if look.dark {
            arguments.push("--blink-settings=preferredColorScheme=0".into());
        }
        let options = json!({ "args": arguments });
        let capabilities = [("goog:chromeOptions".to_owned(), options)].into_iter().collect();
        let page = ClientBuilder::new(hyper_util::client::legacy::connect::HttpConnector::new())
            .capabilities(capabilities)
            .connect(&format!("http://127.0.0.1:{}", driver.port))
            .await
            .expect("the browser opens");
        Self { page, site: site.url(""), name, _driver: driver }
    }

    pub async fn go(&self, path: &str) {
        self.page.goto(&format!("{}{path}", self.site)).await.expect("the page loads");
    }

    /// At a desk, with somebody who has logged in.
    pub async fn logged_in(site: &Site, name: &'static str, email: &str) -> Self {
        let browser = Self::open(site, name, DESK).await;
        browser.log_in(email).await;
        browser
    }

    pub async fn log_in(&self, email: &str) {
        self.go("/login").await;
        self.write("input[name=email]", email).await;
        self.write("input[name=password]", PASSWORD).await;
        self.press("Log in").await;
        // (A phone folds the rest of it.)
        let navigation = Locator::Css("header.side");
        self.page.wait().for_element(navigation).await.expect("somebody is logged in");
    }

    pub async fn write(&self, css: &str, text: &str) {
        let field = self.page.wait().for_element(Locator::Css(css)).await.expect(css);
        field.send_keys(text).await.expect("it can be written to");
    }

    /// Presses the first button, or what looks like one, with this name.
    pub async fn press(&self, name: &str) {
        let path = format!(
            "(//button[normalize-space()='{name}'] | //summary[normalize-space()='{name}'] | \
             //a[normalize-space()='{name}'])[1]"
        );
        let button = self.page.wait().for_element(Locator::XPath(&path)).await.expect(name);
        button.click().await.expect("it can be pressed");
    }

    /// Clicks what has no name of its own.
    pub async fn click(&self, css: &str) {
        let found = self.page.wait().for_element(Locator::Css(css)).await.expect(css);
        found.click().await.expect("it can be clicked");
    }

    /// What is to be read; nothing while the page changes.
    pub async fn text(&self) -> String {
        let read = self.page.execute("return document.body.innerText", Vec::new()).await;
        read.ok().and_then(|text| text.as_str().map(str::to_owned)).unwrap_or_default()
    }

    /// Waits until the page says so, without touching it.
    pub async fn sees(&self, text: &str) {
        self.until(text, async || self.text().await.contains(text)).await;
    }

    /// Waits until what is called so on the page has this value.
    pub async fn shows(&self, live: &str, value: &str) {
        let css = format!("[data-live={live}]");
        self.until(value, async || {
            let Ok(place) = self.page.find(Locator::Css(&css)).await else { return false };
            place.text().await.is_ok_and(|text| text == value)
        })
        .await;
    }

    async fn until(&self, what: &str, there: impl AsyncFn() -> bool) {
        let waited = tokio::time::timeout(Duration::from_secs(60), async {
            while !there().await {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
        if waited.await.is_err() {
            self.keep("stuck").await;
            panic!("{what} is not to be seen on this page: {}", self.text().await);
        }
    }

    /// A screenshot, for a person to look at.
    pub async fn keep(&self, what: &str) {
        let directory = root().join(".photogate/screenshots");
        std::fs::create_dir_all(&directory).expect("a directory");
        let picture = self.page.screenshot().await.expect("a picture");
        std::fs::write(directory.join(format!("{}-{what}.png", self.name)), picture)
            .expect("it is written");
    }

    pub async fn close(self) {
        self.page.clone().close().await.expect("the browser closes");
    }
}

pub const PASSWORD: &str = "correct horse battery";

impl App {
    pub async fn a_person(&self, email: &str, role: Role, organisation: Option<OrganisationId>) {
        let password = access::Hashed::new(PASSWORD, email).await.expect("a good password");
        access::create_person(&mut *self.db().await, email, &password, role, organisation)
            .await
            .expect("an account is made");
    }
}
