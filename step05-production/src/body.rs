//! The body of a request: JSON, not too long, and not for ever on its way.

use std::time::Duration;

use bytes::Buf;
use futures_util::{Stream, TryStreamExt};
use tokio::time::timeout;
use warp::http::StatusCode;
use warp::reject::{Reject, Rejection};
use warp::{Filter, reject};

/// How long a body may take to arrive.
const BODY: Duration = Duration::from_secs(10);

/// A body that is refused, with the status that says why.
#[derive(Debug)]
pub struct BadBody(pub StatusCode);

impl Reject for BadBody {}

/// A filter for a body that is JSON by its own account and has so many bytes at most.
pub fn json_body(limit: usize) -> impl Filter<Extract = (Vec<u8>,), Error = Rejection> + Clone {
    json_only(false).and(warp::body::stream()).and_then(move |body| async move {
        let body = timeout(BODY, read(body, limit)).await;
        body.unwrap_or(Err(StatusCode::REQUEST_TIMEOUT)).map_err(refuse)
    })
}

/// A filter that lets JSON pass and, where there is nothing to read, `or_nothing`. Browsers let a
/// form of another site send other types without asking first.
pub fn json_only(or_nothing: bool) -> impl Filter<Extract = (), Error = Rejection> + Clone {
    warp::header::optional("content-type")
        .and_then(move |media_type: Option<String>| {
            let is_fine = media_type.map_or(or_nothing, is_json);
            let refusal = || refuse(StatusCode::UNSUPPORTED_MEDIA_TYPE);
            async move { if is_fine { Ok(()) } else { Err(refusal()) } }
        })
        .untuple_one()
}

/// The rejection for a body that is no good.
pub fn refuse(status: StatusCode) -> Rejection {
    reject::custom(BadBody(status))
}

fn is_json(media_type: String) -> bool {
    let essence = media_type.split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/json")
}

/// Reads a body, unless it is too long. What the request says about its length may be a lie.
async fn read(
    body: impl Stream<Item = Result<impl Buf, warp::Error>>,
    limit: usize,
) -> Result<Vec<u8>, StatusCode> {
    let body = body.map_err(|_cut| StatusCode::BAD_REQUEST);
    let read = body.try_fold(Vec::new(), async |mut whole, mut part| {
        if whole.len() + part.remaining() > limit {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        whole.extend_from_slice(&part.copy_to_bytes(part.remaining()));
        Ok(whole)
    });
    read.await
}
