//! The wire of each client in a panel: a fault proxy between the browser and the milestone.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;

use ::tests::proxy::{Fault, FaultProxy};

/// How many bytes a second a slow wire carries: a chat message takes about two seconds. The panel's
/// script, `book/theme/live.js`, says the same number.
const SLOW: u32 = 64;

/// What a reader can do to a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Bytes pass again as they come.
    Mend,
    /// Ends what is open, and refuses what is new.
    Cut,
    /// Holds every byte.
    Stall,
    /// Lets a few bytes a second pass.
    Slow,
}

impl FromStr for Action {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "mend" => Ok(Self::Mend),
            "cut" => Ok(Self::Cut),
            "stall" => Ok(Self::Stall),
            "slow" => Ok(Self::Slow),
            _ => Err(()),
        }
    }
}

/// One wire.
#[derive(Debug)]
pub struct Wire {
    proxy: FaultProxy,
}

impl Wire {
    /// Lays a wire to a milestone.
    ///
    /// # Errors
    /// There is no free port.
    pub async fn to(milestone: SocketAddr) -> io::Result<Self> {
        let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Ok(Self { proxy: FaultProxy::start(anywhere, milestone).await? })
    }

    /// Where the browser's end is.
    pub fn addr(&self) -> SocketAddr {
        self.proxy.addr()
    }

    /// Breaks or mends it.
    pub fn apply(&self, action: Action) {
        match action {
            Action::Mend => self.proxy.set(Fault::None),
            Action::Stall => self.proxy.set(Fault::Stall),
            Action::Slow => self.proxy.set(Fault::Slow { bytes_per_second: SLOW }),
            Action::Cut => {
                // In this order, or a quick client would be back before the wire is dead.
                self.proxy.set(Fault::Refuse);
                self.proxy.cut();
            }
        }
    }

    /// What is wrong with it, in a word.
    pub fn word(&self) -> &'static str {
        match self.proxy.fault() {
            Fault::None => "whole",
            Fault::Stall => "stalled",
            Fault::Slow { .. } => "slow",
            Fault::Refuse => "cut",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn says_what_is_wrong_with_it() {
        let wire = Wire::to(SocketAddr::from((Ipv4Addr::LOCALHOST, 9))).await.unwrap();
        assert_eq!(wire.word(), "whole");
        for (action, word) in
            [("cut", "cut"), ("stall", "stalled"), ("slow", "slow"), ("mend", "whole")]
        {
            wire.apply(action.parse().unwrap());
            assert_eq!(wire.word(), word);
        }
        assert!("burn".parse::<Action>().is_err());
    }
}
