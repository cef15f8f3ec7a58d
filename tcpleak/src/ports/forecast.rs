//! When the ports to a destination run out.
//!
//! A straight line through the number of sockets in TIME_WAIT would be wrong: it rises for a minute and
//! then stays, because as many leave as come. But every one of them shows its age, and so when it leaves.

use std::time::Duration;

/// The closes that the rate is taken from are at most this old.
const WINDOW: Duration = Duration::from_secs(10);
/// Fewest closes that make a rate, and the shortest time that they are spread over.
const ENOUGH: usize = 10;
const LONG_ENOUGH: Duration = Duration::from_secs(3);
/// What lies further ahead is no forecast.
const HORIZON: u32 = 3600;

/// What a forecast is made from.
#[derive(Clone, Debug)]
pub struct Outlook<'a> {
    /// Ports that connections could take if there were none yet.
    pub ports: u64,
    /// Of these, those that are taken by connections which do not wait for their end.
    pub held: u64,
    /// How many more of these there are in each second.
    pub held_growth: f64,
    /// Ages of the sockets in TIME_WAIT.
    pub waiting: &'a [Duration],
    /// How long one of these keeps its port.
    pub kept_for: Duration,
}

/// What will become of the ports.
#[derive(Clone, Debug, PartialEq)]
pub struct Forecast {
    /// Ports taken in each second.
    pub rate: f64,
    /// How long until they have run out, when they will.
    pub runs_out_in: Option<Duration>,
    /// What it rests on, or why there is none.
    pub basis: String,
}

/// How many sockets went into TIME_WAIT in each second, lately. `None` when there are too few to tell.
pub fn rate_of_closes(ages: &[Duration]) -> Option<f64> {
    let recent = || ages.iter().filter(|age| **age <= WINDOW);
    let oldest = match ages.iter().any(|age| *age > WINDOW) {
        true => WINDOW,
        false => *ages.iter().max()?,
    };
    (recent().count() >= ENOUGH && oldest >= LONG_ENOUGH)
        .then(|| recent().count() as f64 / oldest.as_secs_f64())
}

/// What will become of the ports, if everything goes on as it does.
pub fn forecast(outlook: &Outlook<'_>) -> Forecast {
    let closes = rate_of_closes(outlook.waiting);
    let rate = closes.unwrap_or_default() + outlook.held_growth.max(0.0);
    let basis = match (closes, outlook.held_growth > 0.0) {
        (Some(rate), grows) => {
            let grows = if grows {
                ", and the growth of open ones"
            } else {
                ""
            };
            format!(
                "{rate:.1} closed in a second, over the last {} s{grows}",
                WINDOW.as_secs()
            )
        }
        (None, true) => format!("{:.1} more open ones in a second", outlook.held_growth),
        (None, false) => "withheld: too few connections were closed lately".to_owned(),
    };
    let in_use = |seconds: f64| {
        let waiting = outlook
            .waiting
            .iter()
            .filter(|age| age.as_secs_f64() + seconds < outlook.kept_for.as_secs_f64());
        let come = closes.unwrap_or_default() * seconds.min(outlook.kept_for.as_secs_f64());
        let held = outlook.held as f64 + outlook.held_growth.max(0.0) * seconds;
        held + waiting.count() as f64 + come
    };
    let ports = outlook.ports as f64;
    let mut runs_out_in = None;
    if in_use(0.0) >= ports {
        runs_out_in = Some(Duration::ZERO);
    } else if rate > 0.0 {
        runs_out_in = first_second(|second| in_use(second) >= ports);
    }
    Forecast {
        rate,
        runs_out_in,
        basis,
    }
}

/// The first second for which something holds. Every second of the first minutes is looked at, and then
/// every minute: by then all that waits now is gone, and nothing but a straight line is left.
fn first_second(holds: impl Fn(f64) -> bool) -> Option<Duration> {
    const CLOSE: u32 = 120;
    let near = 1..=CLOSE;
    let far = (CLOSE..=HORIZON).step_by(60);
    near.chain(far)
        .find(|second| holds(f64::from(*second)))
        .map(|second| Duration::from_secs(second.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::table::TIME_WAIT;

    /// Ages after closing so many in a second, for so many seconds.
    fn closed(rate: u64, seconds: u64) -> Vec<Duration> {
        let since = (seconds * rate).min(60 * rate);
        (0..since)
            .map(|number| Duration::from_millis(number * 1000 / rate))
            .collect()
    }

    fn outlook(ports: u64, waiting: &[Duration]) -> Outlook<'_> {
        Outlook {
            ports,
            held: 0,
            held_growth: 0.0,
            waiting,
            kept_for: TIME_WAIT,
        }
    }

    fn seconds(forecast: &Forecast) -> Option<u64> {
        forecast.runs_out_in.map(|time| time.as_secs())
    }

    #[test]
    fn ports_run_out_at_the_rate_at_which_they_are_taken() {
        let waiting = closed(100, 10);
        let forecast = forecast(&outlook(3000, &waiting));
        assert!((forecast.rate - 100.0).abs() < 2.0, "{forecast:?}");
        let left = seconds(&forecast).unwrap();
        assert!((19..=21).contains(&left), "{forecast:?}");
    }

    #[test]
    fn what_levels_off_below_the_limit_never_runs_out() {
        let waiting = closed(100, 30);
        let forecast = forecast(&outlook(6500, &waiting));
        assert_eq!(forecast.runs_out_in, None, "{forecast:?}");
    }

    #[test]
    fn what_has_levelled_off_does_not_run_out_although_it_is_close() {
        let waiting = closed(100, 600);
        let forecast = forecast(&outlook(6200, &waiting));
        assert_eq!(waiting.len(), 6000);
        assert_eq!(forecast.runs_out_in, None, "{forecast:?}");
    }

    #[test]
    fn nothing_is_said_from_a_few_closes() {
        for waiting in [closed(1, 9), closed(100, 2), Vec::new()] {
            let forecast = forecast(&outlook(20_000, &waiting));
            assert_eq!(forecast.runs_out_in, None);
            assert!(forecast.basis.starts_with("withheld"), "{forecast:?}");
        }
    }

    #[test]
    fn ports_that_are_gone_are_gone_whatever_the_rate() {
        let waiting = closed(1000, 2);
        assert_eq!(seconds(&forecast(&outlook(2000, &waiting))), Some(0));
    }

    #[test]
    fn sockets_whose_port_is_reused_take_it_for_a_second() {
        let waiting = closed(100, 30);
        let forecast = forecast(&Outlook {
            kept_for: Duration::from_secs(1),
            ..outlook(200, &waiting)
        });
        assert_eq!(forecast.runs_out_in, None, "{forecast:?}");
    }

    #[test]
    fn a_leak_takes_ports_without_time_wait() {
        let forecast = forecast(&Outlook {
            held: 100,
            held_growth: 2.0,
            ..outlook(700, &[])
        });
        assert_eq!(seconds(&forecast), Some(300));
        assert_eq!(forecast.rate, 2.0);
    }

    #[test]
    fn a_stream_that_has_ended_slows_down() {
        let waiting: Vec<Duration> = closed(100, 30)
            .iter()
            .map(|age| *age + Duration::from_secs(9))
            .collect();
        let rate = rate_of_closes(&waiting).unwrap();
        assert!(rate < 15.0, "{rate}");
    }
}
