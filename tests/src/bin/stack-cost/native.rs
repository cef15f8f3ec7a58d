//! The program in Rust: paths that are the same, that look new, or that are different.

use std::{
    hint::black_box,
    io::{self, BufRead, Write},
    net::{SocketAddr, TcpStream},
};

use anyhow::bail;

/// Argument by which this program becomes the workload.
pub const WORKLOAD: &str = "workload";

/// Calls between the first and the last function of a path: each is one of two.
const LEVELS: u32 = 8;
/// Words that lie on the stack below every path: more than is ever copied.
const FILLING: usize = 5 * 1024;

/// Does what it is told on standard input until that ends.
pub fn run(to: SocketAddr) -> anyhow::Result<()> {
    let mut kept = Vec::new();
    done()?;
    for line in io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split_whitespace().collect();
        match *words {
            ["known", count] => {
                for _ in 0..count.parse()? {
                    connect_above(0, to)?;
                }
            }
            ["new", first, count] => {
                let first: usize = first.parse()?;
                for number in first..first + count.parse::<usize>()? {
                    // An address of code, as far as the kernel can tell.
                    connect_above(run as *const () as usize + number, to)?;
                }
            }
            ["keep", first, count] => {
                let first: u32 = first.parse()?;
                for path in first..first + count.parse::<u32>()? {
                    kept.push(turn(path, LEVELS, to)?);
                }
            }
            _ => bail!("no such order: {line:?}"),
        }
        done()?;
    }
    Ok(())
}

fn done() -> io::Result<()> {
    let mut output = io::stdout();
    output.write_all(b"done\n")?;
    output.flush()
}

/// Connects with a large frame below, which holds the word nearest to the top of the stack.
#[inline(never)]
fn connect_above(word: usize, to: SocketAddr) -> io::Result<()> {
    let mut filling = [0; FILLING];
    filling[0] = word;
    black_box(&mut filling);
    let connection = TcpStream::connect(to);
    black_box(&filling);
    connection.map(drop)
}

/// Goes on by one of two ways, as the lowest bit says.
fn turn(path: u32, levels: u32, to: SocketAddr) -> io::Result<TcpStream> {
    match (levels, path & 1) {
        (0, _) => TcpStream::connect(to),
        (_, 0) => left(path >> 1, levels - 1, to),
        _ => right(path >> 1, levels - 1, to),
    }
}

#[inline(never)]
fn left(path: u32, levels: u32, to: SocketAddr) -> io::Result<TcpStream> {
    let connection = turn(path, levels, to);
    black_box("left");
    connection
}

#[inline(never)]
fn right(path: u32, levels: u32, to: SocketAddr) -> io::Result<TcpStream> {
    let connection = turn(path, levels, to);
    black_box("right");
    connection
}
