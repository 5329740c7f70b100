//! A plugin without SDK that does what it is told. Its configuration has lines `callback: command; command`; a request
//! header `x-do` gives the commands of its own `on_request_headers`. Each command logs `command -> result`.

use std::cell::RefCell;
use std::collections::BTreeMap;

thread_local! {
    /// Commands by root context and callback.
    static ORDERS: RefCell<BTreeMap<u32, BTreeMap<String, String>>> = const { RefCell::new(BTreeMap::new()) };
    static ROOT_OF: RefCell<BTreeMap<u32, u32>> = const { RefCell::new(BTreeMap::new()) };
    static HELD: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
}

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    fn proxy_log(level: u32, text: *const u8, size: usize) -> u32;
    fn proxy_get_current_time_nanoseconds(at: *mut u64) -> u32;
    fn proxy_set_tick_period_milliseconds(period: u32) -> u32;
    fn proxy_get_buffer_bytes(kind: u32, from: u32, most: u32, at: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_get_header_map_value(
        map: u32,
        name: *const u8,
        size: usize,
        at: *mut *mut u8,
        value_size: *mut usize,
    ) -> u32;
    fn proxy_add_header_map_value(map: u32, name: *const u8, size: usize, value: *const u8, value_size: usize) -> u32;
    fn proxy_get_property(path: *const u8, size: usize, at: *mut *mut u8, value_size: *mut usize) -> u32;
    fn proxy_get_shared_data(
        key: *const u8,
        size: usize,
        at: *mut *mut u8,
        value_size: *mut usize,
        cas: *mut u32,
    ) -> u32;
    fn proxy_set_shared_data(key: *const u8, size: usize, value: *const u8, value_size: usize, cas: u32) -> u32;
    fn proxy_register_shared_queue(name: *const u8, size: usize, token: *mut u32) -> u32;
    fn proxy_resolve_shared_queue(vm: *const u8, vm_size: usize, name: *const u8, size: usize, token: *mut u32) -> u32;
    fn proxy_enqueue_shared_queue(token: u32, data: *const u8, size: usize) -> u32;
    fn proxy_dequeue_shared_queue(token: u32, at: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_continue_stream(kind: u32) -> u32;
    fn proxy_close_stream(kind: u32) -> u32;
    fn proxy_send_local_response(
        status: u32,
        details: *const u8,
        details_size: usize,
        body: *const u8,
        body_size: usize,
        headers: *const u8,
        headers_size: usize,
        grpc: i32,
    ) -> u32;
    fn proxy_http_call(
        cluster: *const u8,
        size: usize,
        headers: *const u8,
        headers_size: usize,
        body: *const u8,
        body_size: usize,
        trailers: *const u8,
        trailers_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_grpc_call(
        cluster: *const u8,
        size: usize,
        service: *const u8,
        service_size: usize,
        method: *const u8,
        method_size: usize,
        metadata: *const u8,
        metadata_size: usize,
        message: *const u8,
        message_size: usize,
        timeout: u32,
        token: *mut u32,
    ) -> u32;
    fn proxy_define_metric(kind: u32, name: *const u8, size: usize, id: *mut u32) -> u32;
    fn proxy_increment_metric(id: u32, offset: i64) -> u32;
    fn proxy_record_metric(id: u32, value: u64) -> u32;
    fn proxy_get_metric(id: u32, value: *mut u64) -> u32;
    fn proxy_set_effective_context(id: u32) -> u32;
    fn proxy_get_status(code: *mut u32, at: *mut *mut u8, size: *mut usize) -> u32;
    fn proxy_done() -> u32;
    fn proxy_call_foreign_function(
        name: *const u8,
        size: usize,
        argument: *const u8,
        argument_size: usize,
        at: *mut *mut u8,
        result_size: *mut usize,
    ) -> u32;
}

fn log(text: &str) {
    unsafe { proxy_log(2, text.as_ptr(), text.len()) };
}

/// Calls a function that returns bytes; gives its status and the bytes as text.
fn bytes(call: impl FnOnce(*mut *mut u8, *mut usize) -> u32) -> (u32, String) {
    let (mut at, mut size) = (std::ptr::null_mut(), 0);
    let status = call(&mut at, &mut size);
    if status != 0 || at.is_null() {
        return (status, String::new());
    }
    let owned = unsafe { Vec::from_raw_parts(at, size, size) };
    (status, String::from_utf8_lossy(&owned).into_owned())
}

fn word(call: impl FnOnce(*mut u32) -> u32) -> String {
    let mut word = 0;
    let status = call(&mut word);
    format!("{status} {word}")
}

/// The answer of a callback, 0 unless a command says otherwise.
fn obey(context: u32, callback: &str, commands: &str, usual: u32) -> u32 {
    let mut answer = usual;
    for command in commands.split(';').map(str::trim).filter(|command| !command.is_empty()) {
        match command {
            "pause" => {
                HELD.with_borrow_mut(|held| held.push(context));
                answer = 1;
            }
            "no" => answer = 0,
            "trap" => std::process::abort(),
            "loop" => loop {
                std::hint::black_box(0);
            },
            "exit" => std::process::exit(3),
            _ => log(&format!("{callback}: {command} -> {}", carry_out(command))),
        }
    }
    answer
}

fn carry_out(command: &str) -> String {
    let words: Vec<&str> = command.split(' ').collect();
    let number = |index: usize| words.get(index).and_then(|text| text.parse::<i64>().ok()).unwrap_or(0);
    let text = |index: usize| words.get(index).copied().unwrap_or("");
    unsafe {
        match words[0] {
            "get" => {
                let mut cas = 0;
                let (status, value) =
                    bytes(|at, size| proxy_get_shared_data(text(1).as_ptr(), text(1).len(), at, size, &mut cas));
                format!("{status} `{value}` {cas}")
            }
            "set" => proxy_set_shared_data(
                text(1).as_ptr(),
                text(1).len(),
                text(2).as_ptr(),
                text(2).len(),
                number(3) as u32,
            )
            .to_string(),
            "remove" => proxy_set_shared_data(text(1).as_ptr(), text(1).len(), std::ptr::null(), 0, 0).to_string(),
            "bump" => bump(text(1)),
            "register" => word(|token| proxy_register_shared_queue(text(1).as_ptr(), text(1).len(), token)),
            "resolve" => word(|token| {
                proxy_resolve_shared_queue(text(1).as_ptr(), text(1).len(), text(2).as_ptr(), text(2).len(), token)
            }),
            "enqueue" => proxy_enqueue_shared_queue(number(1) as u32, text(2).as_ptr(), text(2).len()).to_string(),
            "dequeue" => format!("{:?}", bytes(|at, size| proxy_dequeue_shared_queue(number(1) as u32, at, size))),
            "reply" => {
                let details = "probe_details";
                proxy_send_local_response(
                    number(1) as u32,
                    details.as_ptr(),
                    details.len(),
                    text(2).as_ptr(),
                    text(2).len(),
                    std::ptr::null(),
                    0,
                    -1,
                )
                .to_string()
            }
            "resume" => proxy_continue_stream(0).to_string(),
            "resume-response" => proxy_continue_stream(1).to_string(),
            "close" => proxy_close_stream(number(1) as u32).to_string(),
            "effective" => proxy_set_effective_context(number(1) as u32).to_string(),
            "resume-held" => for_held(|| proxy_continue_stream(0)),
            "reply-held" => for_held(|| {
                proxy_send_local_response(429, std::ptr::null(), 0, std::ptr::null(), 0, std::ptr::null(), 0, -1)
            }),
            "header" => format!(
                "{:?}",
                bytes(|at, size| proxy_get_header_map_value(
                    number(1) as u32,
                    text(2).as_ptr(),
                    text(2).len(),
                    at,
                    size
                ))
            ),
            "add" => proxy_add_header_map_value(
                number(1) as u32,
                text(2).as_ptr(),
                text(2).len(),
                text(3).as_ptr(),
                text(3).len(),
            )
            .to_string(),
            "buffer" => {
                format!("{:?}", bytes(|at, size| proxy_get_buffer_bytes(number(1) as u32, 0, 1 << 20, at, size)))
            }
            "property" => {
                let path = text(1).replace('.', "\0");
                format!("{:?}", bytes(|at, size| proxy_get_property(path.as_ptr(), path.len(), at, size)))
            }
            "tick" => proxy_set_tick_period_milliseconds(number(1) as u32).to_string(),
            "time" => {
                let mut nanos = 0;
                proxy_get_current_time_nanoseconds(&mut nanos);
                nanos.to_string()
            }
            "call" => {
                let headers = if text(3) == "bare" {
                    Vec::new()
                } else {
                    pairs(&[(":method", "GET"), (":path", text(3)), (":authority", "a")])
                };
                word(|token| {
                    proxy_http_call(
                        text(1).as_ptr(),
                        text(1).len(),
                        headers.as_ptr(),
                        headers.len(),
                        std::ptr::null(),
                        0,
                        std::ptr::null(),
                        0,
                        number(2) as u32,
                        token,
                    )
                })
            }
            "grpc" => word(|token| {
                proxy_grpc_call(
                    text(1).as_ptr(),
                    text(1).len(),
                    text(2).as_ptr(),
                    text(2).len(),
                    text(3).as_ptr(),
                    text(3).len(),
                    std::ptr::null(),
                    0,
                    b"ask".as_ptr(),
                    3,
                    0,
                    token,
                )
            }),
            "status" => {
                let mut code = 0;
                let (status, message) = bytes(|at, size| proxy_get_status(&mut code, at, size));
                format!("{status} {code} {message}")
            }
            "metric" => metric(number(1) as u32, text(2), text(3), number(4)),
            "done" => proxy_done().to_string(),
            "foreign" => proxy_call_foreign_function(
                text(1).as_ptr(),
                text(1).len(),
                std::ptr::null(),
                0,
                std::ptr::null_mut(),
                std::ptr::null_mut(),
            )
            .to_string(),
            _ => String::new(),
        }
    }
}

/// Adds one to a shared number by compare-and-swap, trying until it holds; gives the tries.
fn bump(key: &str) -> String {
    for tries in 1..100 {
        let mut cas = 0;
        let (_, value) =
            bytes(|at, size| unsafe { proxy_get_shared_data(key.as_ptr(), key.len(), at, size, &mut cas) });
        let next = (value.parse().unwrap_or(0) + 1).to_string();
        if unsafe { proxy_set_shared_data(key.as_ptr(), key.len(), next.as_ptr(), next.len(), cas) } == 0 {
            return tries.to_string();
        }
    }
    "never".to_owned()
}

fn metric(kind: u32, name: &str, change: &str, amount: i64) -> String {
    let (mut id, mut value) = (0, 0);
    let defined = unsafe { proxy_define_metric(kind, name.as_ptr(), name.len(), &mut id) };
    let changed = match change {
        "record" => unsafe { proxy_record_metric(id, amount as u64) },
        _ => unsafe { proxy_increment_metric(id, amount) },
    };
    let read = unsafe { proxy_get_metric(id, &mut value) };
    format!("{defined} {changed} {read} {value}")
}

fn for_held(act: impl Fn() -> u32) -> String {
    let held = HELD.with_borrow_mut(std::mem::take);
    let mut gone = 0;
    for context in &held {
        if unsafe { proxy_set_effective_context(*context) } == 0 {
            act();
        } else {
            gone += 1;
        }
    }
    format!("{} held, {gone} gone", held.len())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = (pairs.len() as u32).to_le_bytes().to_vec();
    for (name, value) in pairs {
        bytes.extend((name.len() as u32).to_le_bytes());
        bytes.extend((value.len() as u32).to_le_bytes());
    }
    for (name, value) in pairs {
        bytes.extend([name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat());
    }
    bytes
}

/// Logs the callback and obeys what the configuration says for it.
fn called(context: u32, callback: &str, detail: &str, usual: u32) -> u32 {
    let root = ROOT_OF.with_borrow(|roots| roots.get(&context).copied().unwrap_or(context));
    log(&format!("{callback}({context}){detail}"));
    let commands = ORDERS.with_borrow(|orders| orders.get(&root).and_then(|orders| orders.get(callback)).cloned());
    obey(context, callback, &commands.unwrap_or_default(), usual)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_abi_version_0_2_1() {}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_memory_allocate(size: usize) -> *mut u8 {
    let mut buffer = std::mem::ManuallyDrop::new(Vec::<u8>::with_capacity(size));
    buffer.as_mut_ptr()
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_context_create(context: u32, root: u32) {
    let of = if root == 0 { context } else { root };
    ROOT_OF.with_borrow_mut(|roots| roots.insert(context, of));
    called(context, "create", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_vm_start(context: u32, size: u32) -> u32 {
    called(context, "vm_start", &format!(" {size}"), 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_configure(context: u32, _: u32) -> u32 {
    let (_, text) = bytes(|at, size| unsafe { proxy_get_buffer_bytes(7, 0, 1 << 20, at, size) });
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    let orders = lines.map(|(callback, commands)| (callback.trim().to_owned(), commands.to_owned())).collect();
    ORDERS.with_borrow_mut(|all| all.insert(context, orders));
    called(context, "configure", "", 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_headers(context: u32, count: u32, end: u32) -> u32 {
    let answer = called(context, "request_headers", &format!(" {count} {end}"), 0);
    let (_, commands) = bytes(|at, size| unsafe { proxy_get_header_map_value(0, "x-do".as_ptr(), 4, at, size) });
    obey(context, "request_headers", &commands, answer)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_body(context: u32, size: u32, end: u32) -> u32 {
    called(context, "request_body", &format!(" {size} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_request_trailers(context: u32, count: u32) -> u32 {
    called(context, "request_trailers", &format!(" {count}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_headers(context: u32, _: u32, end: u32) -> u32 {
    called(context, "response_headers", &format!(" {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_body(context: u32, size: u32, end: u32) -> u32 {
    called(context, "response_body", &format!(" {size} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_response_trailers(context: u32, count: u32) -> u32 {
    called(context, "response_trailers", &format!(" {count}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_http_call_response(context: u32, token: u32, headers: u32, body: u32, _: u32) {
    called(context, "call_response", &format!(" {token} {headers} {body}"), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_grpc_receive(context: u32, token: u32, size: u32) {
    called(context, "grpc_receive", &format!(" {token} {size}"), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_queue_ready(context: u32, token: u32) {
    called(context, "queue_ready", &format!(" {token}"), 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_tick(context: u32) {
    called(context, "tick", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_log(context: u32) {
    called(context, "log", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_done(context: u32) -> u32 {
    called(context, "done", "", 1)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_delete(context: u32) {
    called(context, "delete", "", 0);
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_new_connection(context: u32) -> u32 {
    called(context, "connection", "", 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_data(context: u32, size: u32, end: u32) -> u32 {
    called(context, "downstream", &format!(" {size} {end}"), 0)
}

#[unsafe(no_mangle)]
extern "C" fn proxy_on_downstream_connection_close(context: u32, _: u32) {
    called(context, "closed", "", 0);
}
