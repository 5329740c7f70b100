//! A proxy-wasm host (ABI 0.2.0 and 0.2.1) that behaves like Envoy's, for testing plugins: any plugin, in any language,
//! as the .wasm file that a proxy would load. It does not link the plugin and opens no sockets; time, randomness, races
//! and failures are the test's to choose, and every run is the same.
//!
//! ```
//! use tidegate_host_test::{Host, Module, Outcome, Plugin, Request};
//!
//! // A plugin that answers every request with 429. A real test uses `Module::from_file("plugin.wasm")`.
//! let module = Module::from_bytes(br#"(module
//!     (import "env" "proxy_send_local_response"
//!         (func $reply (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
//!     (memory (export "memory") 1)
//!     (func (export "proxy_abi_version_0_2_1"))
//!     (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
//!         (drop (call $reply (i32.const 429) (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)
//!             (i32.const 0) (i32.const 0) (i32.const -1)))
//!         (i32.const 1)))"#)?;
//! let host = Host::builder().workers(2).build();
//! let plugin = host.load(Plugin::new(&module).name("limiter").configuration("{}"))?;
//!
//! let stream = host.request(0, &plugin, Request::get("/api").header("x-user", "7").peer("10.0.0.1:4000"));
//! assert!(matches!(stream.outcome(), Outcome::LocalReply(reply) if reply.status == 429));
//! assert_eq!(host.calls().count("proxy_send_local_response"), 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # What a test controls
//!
//! * **Threads.** N workers and the main thread, each with its own VM for each `vm_id` and code, over one shared store.
//!   [`Host::load`] starts a canary, then the main thread, then the workers; a refusal carries the plugin's log lines.
//! * **Time.** [`Host::advance`] lets time pass and fires ticks and callout timeouts; [`Clock::set_micros`] steps the
//!   wall clock either way.
//! * **The client and the upstream.** [`Host::request`], [`Stream::send_body`], [`Stream::disconnect`], [`Upstream`].
//! * **Clusters.** Calls wait in [`Host::callouts`] until [`Host::answer`], or are refused as [`Cluster`] says.
//! * **Races.** [`Host::before_call`] runs another worker just before a chosen host call; [`Host::run_interleaved`] does
//!   so at random from a seed. A request to a worker that is inside a callback waits, as on a real event loop.
//! * **Death.** Traps, endless loops (fuel), [`Host::kill`], and Envoy's own recursion limit end a VM; [`FailPolicy`] says
//!   what then. [`Host::refuse_calls`] makes a host function fail.
//! * **Cost.** [`Host::calls`] counts host calls, apart those that return bytes; [`Host::memory_bytes`] is what a VM holds.
//!
//! [`scenario::run`] replays Tidegate's scenario files through any build of its plugin.
//!
//! # What is not modelled
//!
//! Routes and clusters beyond a name and a state, other filters, per-route configuration, HTTP framing and flow control,
//! stream and request timeouts, the jiffies of a real timer (ticks are exact), jitter of the reload backoff, histogram
//! buckets, foreign functions other than `clear_route_cache`, two plugins that are equal to the last byte (Envoy gives
//! them one root context). An interruption ends before the interrupted call goes on: of two workers that both read and
//! then both write, the one interrupted writes last.

mod abi;
mod callout;
mod calls;
mod clock;
mod connection;
mod context;
mod drive;
mod failure;
mod guest;
mod headers;
mod host;
mod imports;
mod lifecycle;
mod logs;
mod message;
mod metrics;
mod module;
mod plugin;
mod property;
mod race;
pub mod scenario;
mod shared;
mod stream;
mod thread;
mod timers;
mod vm;

pub use abi::Status;
pub use callout::{Answer, Callout, CalloutKind, Cluster};
pub use calls::{CallKind, Calls};
pub use clock::Clock;
pub use connection::Connection;
pub use headers::Headers;
pub use host::{Host, HostBuilder, Upstream};
pub use logs::{LogLevel, LogLine};
pub use message::{Message, Request, Response};
pub use metrics::Metrics;
pub use module::{Module, ModuleError};
pub use plugin::{FailPolicy, LoadError, Plugin, PluginId};
pub use race::{HostCall, Job};
pub use shared::SharedData;
pub use stream::{LocalReply, Outcome, Stream};
pub use thread::Thread;
