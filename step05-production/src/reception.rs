//! Whoever wants to chat comes by here, with a WebSocket or without one.

use std::net::IpAddr;
use std::sync::Arc;

use uuid::Uuid;

use crate::accounts::{Accounts, SignedIn};
use crate::connection::Guest;
use crate::drain::Drain;
use crate::limits::{Limits, Meter};
use crate::names;
use crate::seats::{Full, Seat, Seats};
use crate::telemetry;

/// What it takes to let somebody in. Clones are the same reception.
#[derive(Clone)]
pub struct Reception {
    /// Who is who.
    pub accounts: Accounts,
    /// How many there may be.
    pub seats: Arc<Seats>,
    /// How much they may send.
    pub limits: Arc<Limits>,
    /// When everybody has to leave.
    pub drain: Drain,
}

impl Reception {
    /// Lets somebody in who is signed in.
    ///
    /// # Errors
    /// There is no seat.
    pub fn admit(
        &self,
        signed_in: &SignedIn,
        address: IpAddr,
        session: Option<Uuid>,
    ) -> Result<(Guest, Seat), Full> {
        let user = names::key(&signed_in.name);
        let seat = if self.drain.stop.is_cancelled() {
            Err(Full::Server)
        } else {
            self.seats.take(Some(address), Some(&user))
        };
        let seat = seat.inspect_err(|full| telemetry::refused(full.word()))?;
        let meter = Meter::new(Arc::clone(&self.limits), user, address);
        let live = self.accounts.watch(signed_in);
        Ok((Guest { name: signed_in.name.clone(), session, meter, live }, seat))
    }
}
