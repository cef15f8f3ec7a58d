//! Who may ask.

use std::net::{IpAddr, Ipv6Addr};

use subtle::ConstantTimeEq;

/// Shortest token: a password that somebody thought of is none.
const TOKEN_BYTES: usize = 16;

/// Who may ask.
#[derive(Clone, Default)]
pub struct Access {
    token: Option<String>,
    hosts: Vec<String>,
}

impl std::fmt::Debug for Access {
    /// Without the token.
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut shown = formatter.debug_struct("Access");
        shown.field("has_token", &self.token.is_some());
        shown.field("hosts", &self.hosts).finish()
    }
}

impl Access {
    /// For those who know the token, if there is one, and who ask for one of these names of this host.
    ///
    /// # Errors
    ///
    /// When the token is one that could be guessed, or that no header can carry.
    pub fn new(token: Option<&str>, hosts: &[String]) -> Result<Self, &'static str> {
        let token = token.map(str::trim);
        if let Some(token) = token {
            if token.len() < TOKEN_BYTES {
                return Err(
                    "a token has at least 16 characters, as `openssl rand -hex 32` makes them",
                );
            }
            if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err("a token is one line of ASCII letters, digits and signs");
            }
        }
        Ok(Self {
            token: token.map(str::to_owned),
            hosts: hosts.iter().map(|host| host.to_ascii_lowercase()).collect(),
        })
    }

    /// Whether there is a token at all.
    pub fn has_token(&self) -> bool {
        self.token.is_some()
    }

    /// Whether this value of the header `Host` names this host: an address, `localhost`, or a name that was
    /// given. A page of a stranger can have its own name lead here, and would then read what is served.
    pub fn admits_host(&self, host: &str) -> bool {
        let Some(name) = name_of(host) else {
            return false;
        };
        let name = name.to_ascii_lowercase();
        name == "localhost" || name.parse::<IpAddr>().is_ok() || self.hosts.contains(&name)
    }

    /// Whether this value of the header `Authorization` holds the token.
    pub fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let Some(token) = &self.token else {
            return true;
        };
        let Some((scheme, given)) = authorization.and_then(|value| value.split_at_checked(7))
        else {
            return false;
        };
        // How long it takes must not tell how much of it is right.
        scheme.eq_ignore_ascii_case(b"Bearer ") && given.ct_eq(token.as_bytes()).into()
    }
}

/// The name in `name`, `name:port` or `[address]:port`.
fn name_of(host: &str) -> Option<&str> {
    let is_port = |port: &str| port.parse::<u16>().is_ok();
    if let Some(rest) = host.strip_prefix('[') {
        let (address, rest) = rest.split_once(']')?;
        address.parse::<Ipv6Addr>().ok()?;
        let port = rest.strip_prefix(':');
        return (rest.is_empty() || port.is_some_and(is_port)).then_some(address);
    }
    match host.split_once(':') {
        Some((name, port)) => is_port(port).then_some(name),
        None => Some(host),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    #[test]
    fn without_a_token_everybody_may_ask() {
        assert!(Access::default().admits(None));
        assert!(Access::default().admits(Some(b"Bearer whatever")));
    }

    #[test]
    fn with_a_token_only_who_knows_it_may_ask() {
        let access = Access::new(Some(&format!("{TOKEN}\n")), &[]).unwrap();
        assert!(access.admits(Some(format!("Bearer {TOKEN}").as_bytes())));
        assert!(access.admits(Some(format!("bearer {TOKEN}").as_bytes())));
        for wrong in [
            "",
            "Bearer",
            "Bearer ",
            "Bearer 0123456789abcdeg",
            "Bearer 0123456789abcde",
            "Bearer 0123456789abcdef0",
            "Basic 0123456789abcdef",
            TOKEN,
        ] {
            assert!(!access.admits(Some(wrong.as_bytes())), "{wrong}");
        }
        assert!(!access.admits(None));
        assert!(!format!("{access:?}").contains(TOKEN));
    }

    #[test]
    fn a_token_that_could_be_guessed_is_refused() {
        for wrong in [
            "",
            "secret",
            "0123456789 abcdef",
            "0123456789abcdef\nx",
            "ükhkjhkjhkjhkjhkhk",
        ] {
            assert!(Access::new(Some(wrong), &[]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_strangers_name_does_not_lead_here() {
        let access = Access::new(None, &["Tcpleak.Shop".into()]).unwrap();
        for host in [
            "localhost",
            "LOCALHOST:9469",
            "127.0.0.1:9469",
            "10.1.2.3",
            "[::1]:9469",
            "[fe80::1]",
            "tcpleak.shop:443",
        ] {
            assert!(access.admits_host(host), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example:9469",
            "127.0.0.1.evil.example",
            "127.0.0.1:evil",
            "[::1].evil.example",
            "[evil]",
            "::1",
        ] {
            assert!(!access.admits_host(host), "{host}");
        }
    }
}
