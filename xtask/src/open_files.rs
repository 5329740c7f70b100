//! Raises this process's limit of open files, which children inherit: thousands of connections need as many.
//! Not here: the kernel's other limits, which loopback tests do not reach.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the soft limit of open files to the hard one and returns what holds now; `None` means no limit.
/// Calling it again changes nothing. Where the kernel refuses, the old limit stays.
pub fn raise() -> Option<u64> {
    let mut limit = getrlimit(Resource::Nofile);
    if limit.current != limit.maximum {
        limit.current = limit.maximum;
        // Refused (a sandbox, say): go on with what there is; opening the next file then says what is wrong.
        let _ = setrlimit(Resource::Nofile, limit);
    }
    getrlimit(Resource::Nofile).current
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_soft_limit_becomes_the_hard_one() {
        raise();
        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }
}
