//! The plugin's side of the proxy-wasm ABI 0.2.1: the functions that the host calls, and the contexts they reach.
//!
//! The SDK is not used: its module imports every function of the ABI, so that a host which lacks one refuses the
//! plugin; it exports every callback, each of which costs the host a call a request; it can answer only two of the
//! ABI's five ways to pause; and it panics where a status or a context is not what it expects. Here an unknown context
//! is ignored, and nothing is imported or exported that Tidegate does not use.

use core::cell::RefCell;

use crate::exchange::Exchange;
use crate::root::Root;
use tidegate_engine::sorted::Sorted;

/// What the host does with headers after a callback. The numbers are the ABI's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterHeaders {
    /// The next filter gets them.
    Continue = 0,
    /// They stop here. Envoy stops the body as well, unless the plugin is configured with
    /// `allow_on_headers_stop_iteration`: then each piece of it is asked about.
    Stop = 1,
}

/// What the host does with a piece of a body after a callback. The numbers are proxy-wasm-cpp-host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AfterBody {
    /// The next filter gets it.
    Continue = 0,
    /// It is kept until the body is whole; past the host's buffer limit the host answers 413.
    Collect = 1,
    /// It is kept, and the client is slowed down when there is much of it.
    Hold = 2,
}

/// All contexts of a VM, by the ids that the host gave them.
#[derive(Debug, Default)]
struct Contexts {
    roots: Sorted<u32, Root>,
    /// Boxed, so that taking one out moves little: a worker may hold tens of thousands of streams.
    exchanges: Sorted<u32, Box<Exchange>>,
}

thread_local! {
    static CONTEXTS: RefCell<Contexts> = RefCell::new(Contexts::default());
}

/// Runs a callback with the contexts. The host never calls in while a callback runs; if one did, `otherwise` is
/// answered rather than a trap risked.
fn with<T>(otherwise: T, callback: impl FnOnce(&mut Contexts) -> T) -> T {
    CONTEXTS.with(|contexts| match contexts.try_borrow_mut() {
        Ok(mut contexts) => callback(&mut contexts),
        Err(_) => otherwise,
    })
}

fn with_exchange<T>(id: u32, otherwise: T, callback: impl FnOnce(&mut Exchange) -> T) -> T
where
    T: Copy,
{
    with(otherwise, |contexts| contexts.exchanges.get_mut(&id).map_or(otherwise, |exchange| callback(exchange)))
}

/// Tells the host which version of the ABI this is.
#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

/// Gives the host memory for bytes that it returns; whoever made the call takes it over.
#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; size].into_boxed_slice()).cast()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(id: u32, root: u32) {
    with((), |contexts| {
        if root == 0 {
            contexts.roots.insert(id, Root::default());
        } else if let Some(exchange) = contexts.roots.get(&root).and_then(|root| root.exchange(id)) {
            contexts.exchanges.insert(id, Box::new(exchange));
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(_: u32, _: usize) -> bool {
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(id: u32, size: usize) -> bool {
    with(false, |contexts| {
        let others: Vec<_> = contexts.roots.iter().filter_map(|(_, root)| root.deployment()).collect();
        contexts.roots.get_mut(&id).is_some_and(|root| root.configure(size, &others))
    })
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(id: u32, _: usize, is_whole: bool) -> u32 {
    with_exchange(id, AfterHeaders::Continue, |exchange| exchange.request_headers(is_whole)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(id: u32, size: usize, is_whole: bool) -> u32 {
    with_exchange(id, AfterBody::Continue, |exchange| exchange.request_body(size, is_whole)) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(id: u32, _: usize) -> u32 {
    with_exchange(id, AfterHeaders::Continue, Exchange::request_trailers) as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(id: u32, _: usize, _: bool) -> u32 {
    with_exchange(id, (), Exchange::response_headers);
    AfterHeaders::Continue as u32
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(id: u32, token: u32, headers: u32, _: usize, _: u32) {
    with((), |contexts| {
        let Some(root) = contexts.roots.get_mut(&id) else { return };
        let Some(awaited) = root.call_answered(token, headers) else { return };
        match contexts.exchanges.get_mut(&awaited.exchange()) {
            Some(exchange) => exchange.go_on(awaited),
            None => root.give_back(awaited),
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(id: u32) {
    with((), |contexts| {
        let due = contexts.roots.get_mut(&id).map(Root::tick).unwrap_or_default();
        for (exchange, late) in due {
            if let Some(exchange) = contexts.exchanges.get_mut(&exchange) {
                exchange.due(late);
            }
        }
    });
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(id: u32) -> bool {
    with_exchange(id, (), Exchange::done);
    true
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(id: u32) {
    with((), |contexts| {
        contexts.exchanges.remove(&id);
        contexts.roots.remove(&id);
    });
}
