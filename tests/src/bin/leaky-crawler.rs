//! A little web crawler with a bug: it forgets the connection when a page does not exist.
//!
//! It brings the site that it crawls with it, prints `pid N`, and crawls until standard input ends.
//! With `--wait` it crawls nothing before it has read one line. The site keeps connections open
//! between requests, as web servers do, and closes those on which nothing happens.

use std::{
    collections::BTreeSet,
    hint::black_box,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

/// Time between two visits of the whole site.
const PAUSE: Duration = Duration::from_millis(500);

/// Most visits, should nobody end the crawler: some minutes.
const MOST_VISITS: usize = 400;

/// How long the site keeps a connection on which nothing more is asked.
const KEEP_ALIVE: Duration = Duration::from_millis(200);

fn main() -> io::Result<()> {
    println!("pid {}", std::process::id());
    if std::env::args().any(|argument| argument == "--wait") {
        io::stdin().lock().read_line(&mut String::new())?;
    }
    let site = publish_site()?;
    let leave = end_of_input();
    let mut crawler = Crawler {
        site,
        retry_later: Vec::new(),
    };
    for _ in 0..MOST_VISITS {
        crawl(&mut crawler)?;
        if leave.recv_timeout(PAUSE) != Err(RecvTimeoutError::Timeout) {
            break;
        }
    }
    Ok(())
}

/// A channel that closes when standard input ends.
fn end_of_input() -> mpsc::Receiver<()> {
    let (alive, end) = mpsc::channel();
    thread::spawn(move || {
        // What is read does not matter, nor how it ends: either way nobody is there any more.
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(alive);
    });
    end
}

struct Crawler {
    site: SocketAddr,
    retry_later: Vec<TcpStream>,
}

struct Page {
    links: Vec<String>,
}

/// Visits every page that can be reached from the first one.
#[inline(never)]
fn crawl(crawler: &mut Crawler) -> io::Result<()> {
    let mut seen = BTreeSet::from(["/".to_owned()]);
    let mut frontier = vec!["/".to_owned()];
    while let Some(path) = frontier.pop() {
        let Some(page) = fetch_page(crawler, &path)? else {
            continue;
        };
        for link in page.links {
            if seen.insert(link.clone()) {
                frontier.push(link);
            }
        }
    }
    black_box(());
    Ok(())
}

/// Fetches one page; `None` when it does not exist.
#[inline(never)]
fn fetch_page(crawler: &mut Crawler, path: &str) -> io::Result<Option<Page>> {
    let connection = TcpStream::connect(crawler.site)?;
    write!(
        &connection,
        "GET {path} HTTP/1.1\r\nHost: {}\r\n\r\n",
        crawler.site
    )?;
    let mut response = BufReader::new(&connection);
    let (status, length) = read_head(&mut response)?;
    if status == 404 {
        // The bug: the connection is kept for a retry that never comes.
        crawler.retry_later.push(connection);
        return Ok(black_box(None));
    }
    let mut body = vec![0; length];
    response.read_exact(&mut body)?;
    let links = String::from_utf8_lossy(&body)
        .lines()
        .map(str::to_owned)
        .collect();
    Ok(black_box(Some(Page { links })))
}

/// Reads the head of a response: its status and the length of its body.
fn read_head(response: &mut impl BufRead) -> io::Result<(u16, usize)> {
    let mut line = String::new();
    response.read_line(&mut line)?;
    let status = line
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let mut length = 0;
    while line != "\r\n" && !line.is_empty() {
        line.clear();
        response.read_line(&mut line)?;
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let status = status.ok_or_else(|| io::Error::other("the site does not speak HTTP"))?;
    Ok((status, length))
}

/// Starts the site in threads of its own.
fn publish_site() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    thread::spawn(move || {
        for visitor in listener.incoming().flatten() {
            // A visitor who goes away early is no concern of the site.
            thread::spawn(move || drop(answer(&visitor)));
        }
    });
    Ok(address)
}

fn answer(mut visitor: &TcpStream) -> io::Result<()> {
    let mut requests = BufReader::new(visitor);
    loop {
        let mut request = String::new();
        if requests.read_line(&mut request)? == 0 {
            return Ok(());
        }
        let mut header = String::new();
        while requests.read_line(&mut header)? > 2 {
            header.clear();
        }
        let path = request.split(' ').nth(1).unwrap_or("/");
        let (status, body) = match path {
            "/" => ("200 OK", "/news\n/blog\n/about\n"),
            "/news" => ("200 OK", "/news/today\n/news/yesterday\n"),
            "/blog" => ("200 OK", "/blog/hello\n/blog/draft\n"),
            "/about" | "/news/today" | "/blog/hello" => ("200 OK", "/\n"),
            _ => ("404 Not Found", "no such page\n"),
        };
        let length = body.len();
        let response = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\n\r\n{body}");
        visitor.write_all(response.as_bytes())?;
        visitor.set_read_timeout(Some(KEEP_ALIVE))?;
    }
}
