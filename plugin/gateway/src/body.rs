//! Reading request bodies: each within its bound, all together within another, and in time.
//! Not here: what is in them (`request`).

use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::failure::Failure;

/// Longest wait for a body once its head is there. A proxy sends both at once; a slow sender must not hold a place.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A whole body, and the room that it takes up while it is there.
pub struct Held<'a> {
    bytes: Bytes,
    room: Option<SemaphorePermit<'a>>,
}

impl std::ops::Deref for Held<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Reads a body of at most `most` bytes. Each byte takes one permit of `room` as it arrives, so what is half there counts.
///
/// # Errors
/// `LargeBody`, `Busy` where there is no room, `SlowBody`, or `Malformed` where it breaks off.
pub async fn read(sent: Body, most: usize, room: &Semaphore) -> Result<Held<'_>, Failure> {
    tokio::time::timeout(TIMEOUT, gather(sent, most, room)).await.unwrap_or(Err(Failure::SlowBody))
}

async fn gather(mut sent: Body, most: usize, room: &Semaphore) -> Result<Held<'_>, Failure> {
    // What says that it is too large is not read at all.
    if sent.size_hint().lower() > most as u64 {
        return Err(Failure::LargeBody);
    }
    let mut held = Held { bytes: Bytes::new(), room: None };
    let mut joined = Vec::new();
    while let Some(frame) = sent.frame().await {
        let frame = frame.map_err(|_| Failure::Malformed("the body broke off".to_owned()))?;
        let Ok(data) = frame.into_data() else { continue };
        let so_far = held.bytes.len().max(joined.len());
        if data.len() > most.saturating_sub(so_far) {
            return Err(Failure::LargeBody);
        }
        let permits = u32::try_from(data.len()).map_err(|_| Failure::LargeBody)?;
        let taken = room.try_acquire_many(permits).map_err(|_| Failure::Busy)?;
        match &mut held.room {
            Some(so_far) => so_far.merge(taken),
            None => held.room = Some(taken),
        }
        // Most bodies are one frame, which is not copied.
        if so_far == 0 {
            held.bytes = data;
        } else {
            if joined.is_empty() {
                joined.extend_from_slice(&held.bytes);
            }
            joined.extend_from_slice(&data);
        }
    }
    if !joined.is_empty() {
        held.bytes = joined.into();
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(frames: &[&'static str]) -> Body {
        let frames: Vec<_> = frames.iter().map(|frame| Ok::<_, std::io::Error>(*frame)).collect();
        Body::from_stream(futures_util::stream::iter(frames))
    }

    #[tokio::test]
    async fn frames_are_joined_and_give_theirroom_back() {
        let room = Semaphore::new(10);
        let held = read(body(&["ab", "", "cd", "e"]), 5, &room).await.unwrap();
        assert_eq!((&*held, room.available_permits()), (&b"abcde"[..], 5));
        drop(held);
        assert_eq!(room.available_permits(), 10);
        assert!(read(body(&[]), 5, &room).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn both_bounds_hold() {
        let room = Semaphore::new(10);
        assert_eq!(read(body(&["abc", "def"]), 5, &room).await.err(), Some(Failure::LargeBody));
        assert_eq!(read(Body::from("abcdef"), 5, &room).await.err(), Some(Failure::LargeBody));
        let first = read(body(&["abc", "def"]), 6, &room).await.unwrap();
        assert_eq!(read(body(&["abc", "def"]), 6, &room).await.err(), Some(Failure::Busy));
        assert_eq!(room.available_permits(), 4, "what was refused half-way gave its room back");
        drop(first);
        assert!(read(body(&["abc", "def"]), 6, &room).await.is_ok());
    }
}
