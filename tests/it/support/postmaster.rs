//! Somebody's mail server: aiosmtpd, which can be well, hang, refuse, die and come back.

use std::{
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use serde_json::Value;

use super::{PATIENCE, a_free_address, root};

/// A mail that came, as a person's program reads it.
#[derive(Debug, Clone)]
pub struct Received {
    pub to: String,
    /// Whether the server said that it has it.
    pub accepted: bool,
    pub tls: bool,
    /// As it came over the line.
    pub raw: String,
    pub subject: String,
    pub text: String,
    pub html: String,
    /// Each header line, with its name in lower case.
    headers: Vec<(String, String)>,
}

impl Received {
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut found = self.headers.iter().filter(|(one, _)| one == name);
        let value = found.next().map(|(_, value)| value.as_str());
        assert!(found.next().is_none(), "{name} stands there once");
        value
    }

    pub fn header_names(&self) -> Vec<&str> {
        self.headers.iter().map(|(name, _)| name.as_str()).collect()
    }

    /// The path of the link in the text that ends so.
    pub fn link(&self, end: &str) -> String {
        let link = self.text.lines().find(|line| line.trim().ends_with(end));
        let link = link.unwrap_or_else(|| panic!("no link to {end}: {}", self.text));
        let path = link.find("/mail/").expect("a path");
        link[path..].trim().to_owned()
    }
}

pub struct Postmaster {
    pub address: SocketAddr,
    certificate: Option<(PathBuf, PathBuf)>,
    said: Arc<Mutex<Vec<Value>>>,
    running: Option<Child>,
}

impl Postmaster {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// It wants STARTTLS, and shows this certificate, with its key.
    pub fn start_with(certificate: Option<(PathBuf, PathBuf)>) -> Self {
        let address = a_free_address();
        let mut postmaster = Self { address, certificate, said: Arc::default(), running: None };
        postmaster.come_back();
        postmaster
    }

    /// It is there again, at the same address, and well.
    pub fn come_back(&mut self) {
        let mut command = Command::new(root().join(".photogate/receivers/bin/python"));
        command
            .arg(root().join("tests/it/support/postmaster.py"))
            .arg(self.address.port().to_string())
            .args(self.certificate.iter().flat_map(|(one, other)| [one, other]))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the receivers are set up: scripts/venv receivers");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let said = self.said.clone();
        let before = self.count("ready");
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                said.lock().unwrap().push(serde_json::from_str(&line).expect("JSON"));
            }
        });
        self.running = Some(child);
        self.until(|this| this.count("ready") > before);
    }

    /// Nobody is there any more.
    pub fn die(&mut self) {
        if let Some(mut child) = self.running.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// From now on it is so; see `postmaster.py`.
    pub fn is(&self, mood: &str) {
        let before = self.count("mood");
        let mut stdin = self.running.as_ref().expect("it runs").stdin.as_ref().expect("piped");
        writeln!(stdin, "{mood}").expect("it listens");
        self.until(|this| this.count("mood") > before);
    }

    pub fn url(&self) -> String {
        format!("smtp://{}", self.address)
    }

    fn until(&self, there: impl Fn(&Self) -> bool) {
        let began = std::time::Instant::now();
        while !there(self) {
            assert!(began.elapsed() < PATIENCE, "the mail server does not answer");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    /// How often it was asked to do this: `to`, `data`.
    pub fn count(&self, step: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|one| one["step"] == step).count()
    }

    /// The addresses to which somebody wanted to send.
    pub fn asked_for(&self) -> Vec<String> {
        let said = self.said.lock().unwrap();
        let asked = said.iter().filter(|one| one["step"] == "to");
        asked.map(|one| one["to"].as_str().unwrap().to_owned()).collect()
    }

    /// All mails that came, also those that it then refused.
    pub fn received(&self) -> Vec<Received> {
        let said = self.said.lock().unwrap();
        said.iter().filter(|one| one["step"] == "data").map(read).collect()
    }

    /// The mails to an address that it has accepted.
    pub fn to(&self, address: &str) -> Vec<Received> {
        let all = self.received().into_iter();
        all.filter(|one| one.accepted && one.to == address).collect()
    }
}

impl Drop for Postmaster {
    fn drop(&mut self) {
        self.die();
    }
}

/// Reads a mail with Python's own parser: it is not the library that wrote it.
fn read(one: &Value) -> Received {
    let raw = one["mail"].as_str().unwrap().to_owned();
    let program = "
import email, email.policy, json, sys
mail = email.message_from_bytes(sys.stdin.buffer.read(), policy=email.policy.default)
part = lambda kind: mail.get_body((kind,)).get_content()
print(json.dumps({'headers': [(n.lower(), str(v)) for n, v in mail.items()], 'text': part('plain'),
    'html': part('html'), 'defects': [str(d) for d in mail.defects]}))";
    let mut python = Command::new("python3")
        .args(["-c", program])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3");
    python.stdin.take().unwrap().write_all(raw.as_bytes()).unwrap();
    let output = python.wait_with_output().unwrap();
    let mail: Value = serde_json::from_slice(&output.stdout).expect("it can be read");
    assert_eq!(mail["defects"], serde_json::json!([]));
    let headers: Vec<(String, String)> = serde_json::from_value(mail["headers"].clone()).unwrap();
    let subject = headers.iter().find(|(name, _)| name == "subject").unwrap().1.clone();
    Received {
        to: one["to"][0].as_str().unwrap().to_owned(),
        accepted: one["accepted"].as_bool().unwrap(),
        tls: one["tls"].as_bool().unwrap(),
        text: mail["text"].as_str().unwrap().replace("\r\n", "\n"),
        html: mail["html"].as_str().unwrap().to_owned(),
        raw,
        subject,
        headers,
    }
}
