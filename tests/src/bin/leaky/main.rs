//! A program that mistreats TCP connections in the way it is told to: what the end-to-end tests
//! point tcpleak at.
//!
//! `leaky [--name NAME] ODDITY [ARGUMENT]...`
//!
//! Every oddity is a few lines long and speaks with its test as [`protocol`] says. Functions that a
//! test looks for in a code path are never inlined and never end in a tail call.

mod accept;
mod chatter;
mod closing;
mod connect;
mod descriptors;
mod endings;
mod half_dead;
mod hand_over;
mod pool;
mod protocol;
mod ring;

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};

fn main() -> Result<()> {
    protocol::set_time_limit();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    be_odd(&arguments)?;
    protocol::stay_until_told_to_leave();
    Ok(())
}

fn be_odd(arguments: &[&str]) -> Result<()> {
    match *arguments {
        ["--name", name, ref rest @ ..] => {
            rustix::thread::set_name(&std::ffi::CString::new(name)?)?;
            be_odd(rest)
        }
        ["connect", to, count] => connect::and_forget(address(to)?, number(count)?),
        ["connect-and-read", to] => connect::and_read_to_the_end(address(to)?),
        ["connect-with-keepalive", to] => connect::with_keepalive(address(to)?),
        ["connect-without-blocking", to] => connect::without_blocking(address(to)?),
        ["connect-from-threads", ref to @ ..] => connect::from_threads(&addresses(to)?),
        ["connect-after-many", to, cycles] => connect::after_many(address(to)?, number(cycles)?),
        ["run-out", to, per_second, limit] => {
            descriptors::run_out(address(to)?, number(per_second)?, number(limit)?)
        }
        ["connect-over-mptcp", to] => connect::over_mptcp(address(to)?),
        ["ring-connect", way, to] => ring::connect(ring::way(way)?, address(to)?),
        ["ring-accept", way, at] => ring::accept(ring::way(way)?, &accept::tcp(address(at)?)?),
        ["ring-accept-direct", at] => ring::accept_direct(&accept::tcp(address(at)?)?),
        ["ring-read-in-between", to] => ring::read_in_between(address(to)?),
        ["ring-close", to] => ring::close_one(address(to)?),
        ["ask-and-forget", to, count] => half_dead::ask_and_forget(address(to)?, number(count)?),
        ["send-and-close", to, count] => half_dead::send_and_close(address(to)?, number(count)?),
        ["begin-and-forget", to, count] => {
            half_dead::begin_and_forget(address(to)?, number(count)?)
        }
        ["chatter"] => chatter::without_end(),
        ["keep-sending", to] => connect::and_keep_sending(address(to)?),
        ["pool", to, size] => pool::keep_tidy(address(to)?, number(size)?),
        ["accept", at, count] => accept::and_forget(&accept::tcp(address(at)?)?, number(count)?),
        ["accept-and-stay", at, count] => {
            accept::and_stay(accept::tcp(address(at)?)?, number(count)?)
        }
        ["accept-mptcp", at, count] => {
            accept::and_forget(&accept::mptcp(address(at)?)?, number(count)?)
        }
        ["accept-in-silence", at, count] => {
            accept::in_silence(&accept::tcp(address(at)?)?, number(count)?)
        }
        ["listen", at] => accept::never(accept::tcp(address(at)?)?),
        ["listen-mptcp", at] => accept::never(accept::mptcp(address(at)?)?),
        ["pass-to-child", to] => hand_over::to_child(address(to)?, hand_over::Copy::Close),
        ["share-with-child", to] => hand_over::to_child(address(to)?, hand_over::Copy::Keep),
        ["send-away", to] => hand_over::into_flight(address(to)?),
        ["hold"] => Ok(()),
        ["refused", to] => endings::refused(address(to)?),
        ["timed-out-connecting", to] => endings::timed_out_connecting(address(to)?),
        ["timed-out-sending", to] => endings::timed_out_sending(address(to)?),
        ["disconnected", to] => endings::disconnected(address(to)?),
        ["disconnected-later", to] => endings::disconnected_later(None, address(to)?),
        ["disconnected-later", to, "from", from] => {
            endings::disconnected_later(Some(address(from)?), address(to)?)
        }
        ["shut-down-in-order", to] => endings::shut_down_in_order(address(to)?),
        ["close-first", to, count] => closing::first(address(to)?, number(count)?),
        ["bind-and-close-first", to, count] => closing::bound_first(address(to)?, number(count)?),
        ["accept-and-close-first", at, count] => closing::accepted(address(at)?, number(count)?),
        ["use-up-ports", to, rate] => closing::until_ports_run_out(address(to)?, number(rate)?),
        _ => bail!("no such oddity: {arguments:?}"),
    }
}

fn address(text: &str) -> Result<SocketAddr> {
    text.parse()
        .with_context(|| format!("{text:?} is not an address and port"))
}

fn addresses(texts: &[&str]) -> Result<Vec<SocketAddr>> {
    texts.iter().map(|text| address(text)).collect()
}

fn number(text: &str) -> Result<usize> {
    text.parse()
        .with_context(|| format!("{text:?} is not a number"))
}
