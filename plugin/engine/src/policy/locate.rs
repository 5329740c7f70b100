//! stub
/// x
pub fn locate(_: &[u8], _: &str) -> Option<(usize, usize)> { None }
