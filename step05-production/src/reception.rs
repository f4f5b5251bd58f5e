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
use crate::users::{Arrival, Users};

/// What it takes to let somebody in. Clones are the same reception.
#[derive(Clone)]
pub struct Reception {
    /// Who is who.
    pub accounts: Accounts,
    /// How many there may be.
    pub seats: Arc<Seats>,
    /// Who is connected elsewhere.
    pub users: Arc<dyn Users>,
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
    pub async fn admit(
        &self,
        signed_in: &SignedIn,
        address: IpAddr,
        session: Option<Uuid>,
    ) -> Result<(Guest, Seat), Full> {
        let user = names::key(&signed_in.name);
        let seat = self.seat(&user, address).await;
        let (seat, arrived) = seat.inspect_err(|full| telemetry::refused(full.word()))?;
        let meter = Meter::new(Arc::clone(&self.limits), user, address);
        let live = self.accounts.watch(signed_in);
        Ok((Guest { name: signed_in.name.clone(), session, meter, live, arrived }, seat))
    }

    /// Takes a seat, and tells when that was. First here, where it costs nothing to look.
    async fn seat(&self, user: &str, address: IpAddr) -> Result<(Seat, u64), Full> {
        if self.drain.stop.is_cancelled() {
            return Err(Full::Server);
        }
        let mut here = self.seats.take(Some(address), Some(user))?;
        let arrival = self.users.arrive(user, self.seats.caps().per_user).await;
        let Arrival { at, seat } = arrival.ok_or(Full::User)?;
        here.elsewhere = seat;
        Ok((here, at))
    }
}
