//! A real browser without a screen, and questions to the page that it shows.

use std::{
    io::Write,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::Receiver,
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::{installed, lines_of, patience, repository, wait_until};

/// A browser that shows one page. It ends when this value is dropped.
pub struct Browser {
    child: Child,
    questions: Option<ChildStdin>,
    answers: Receiver<String>,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Opens a page.
    #[track_caller]
    pub fn open(url: &str) -> Self {
        let chromium = installed("chromium", "chromium");
        let profile = tempfile::tempdir().expect("there is a directory for temporary files");
        let mut child = Command::new(installed("node", "nodejs"))
            .arg(repository().join("tests/fixtures/javascript/browser.mjs"))
            .arg(chromium)
            .arg(profile.path())
            .arg(url)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("node can be started");
        Self {
            questions: child.stdin.take(),
            answers: lines_of(child.stdout.take().expect("standard output is piped")),
            child,
            _profile: profile,
        }
    }

    /// What an expression of JavaScript is in the page.
    #[track_caller]
    pub fn evaluate(&mut self, expression: &str) -> Value {
        let answer = self.ask(expression);
        assert_eq!(answer["error"], Value::Null, "{expression}");
        answer["value"].clone()
    }

    /// Waits until an expression is true in the page, which asks for news every five seconds.
    #[track_caller]
    pub fn wait_until(&mut self, expression: &str) {
        let start = Instant::now();
        while self.evaluate(&format!("Boolean({expression})")) != true {
            if start.elapsed() > 2 * patience() {
                let (page, complaints) = (self.text(), self.complaints());
                panic!("waited in vain for {expression}: {complaints}\n{page}");
            }
            thread::sleep(Duration::from_millis(50));
        }
    }

    /// All text that the page shows.
    #[track_caller]
    pub fn text(&mut self) -> String {
        let text = self.evaluate("document.body.innerText.replaceAll('\\u00a0', ' ')");
        text.as_str().expect("a document has text").to_owned()
    }

    /// What the browser complained of so far: errors of scripts, and what the policy of the page forbade.
    #[track_caller]
    pub fn complaints(&mut self) -> Value {
        self.ask("0")["complaints"].clone()
    }

    #[track_caller]
    fn ask(&mut self, expression: &str) -> Value {
        assert!(!expression.contains('\n'), "a question is one line");
        let questions = self.questions.as_mut().expect("it is open");
        writeln!(questions, "{expression}").expect("the browser listens");
        let answer = self.answers.recv_timeout(3 * patience());
        let answer = answer.unwrap_or_else(|error| panic!("the browser says nothing: {error}"));
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error} in {answer:?}"))
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the questions is the end of the browser.
        self.questions = None;
        if !std::thread::panicking() {
            wait_until("the browser ends", || {
                self.child.try_wait().expect("it is a child").is_some()
            });
        }
    }
}
