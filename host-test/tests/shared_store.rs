//! Shared data and shared queues behave as Envoy's.

#[path = "plugins/built.rs"]
mod built;

use built::{answer, messages, probe, tell};
use tidegate_host_test::{Host, Request, Status, Thread};

fn told(host: &Host, plugin: &tidegate_host_test::PluginId, command: &str) -> String {
    tell(host, plugin, command);
    answer(host, &format!("request_headers: {command} -> "))
}

fn number(status: Status) -> String {
    (status as u32).to_string()
}

#[test]
fn compare_and_swap_is_that_of_envoy() {
    let host = Host::builder().build();
    let plugin = host.load(probe("")).unwrap();
    assert_eq!(told(&host, &plugin, "get k"), "1 `` 0");
    assert_eq!(told(&host, &plugin, "set k a 777"), number(Status::Ok), "a missing key takes any number");
    assert_eq!(told(&host, &plugin, "get k"), "0 `a` 1");
    assert_eq!(told(&host, &plugin, "set k b 777"), number(Status::CasMismatch));
    assert_eq!(told(&host, &plugin, "set k b 1"), number(Status::Ok));
    assert_eq!(told(&host, &plugin, "set k c 0"), number(Status::Ok), "0 overwrites");
    assert_eq!(told(&host, &plugin, "set other x 0"), number(Status::Ok));
    assert_eq!(host.shared_data("").cas("other"), Some(4), "one counter for all keys");
    assert_eq!(told(&host, &plugin, "remove k"), number(Status::Ok));
    assert_eq!(told(&host, &plugin, "get k"), "0 `` 5", "removing stores an empty value");
    let data = host.shared_data("");
    assert_eq!((data.len(), data.bytes()), (2, 7));
}

#[test]
fn vm_ids_do_not_see_each_other_and_unloading_the_last_drops_the_data() {
    let host = Host::builder().build();
    let a = host.load(probe("").vm_id("a")).unwrap();
    let b = host.load(probe("").vm_id("b")).unwrap();
    told(&host, &a, "set k 1 0");
    assert_eq!(told(&host, &b, "get k"), "1 `` 0");
    host.unload(&a);
    assert!(host.shared_data("a").is_empty());
    assert_eq!(host.request(0, &a, Request::get("/")).status(), 503);
}

#[test]
fn the_last_to_register_a_queue_is_told_and_reads_destroy() {
    let host = Host::builder().workers(2).build();
    let take = "configure: register jobs\nqueue_ready: dequeue 1";
    let plugin = host.load(probe(take).vm_id("q")).unwrap();
    let other = host.load(probe("").vm_id("other")).unwrap();
    assert_eq!(told(&host, &other, "resolve q jobs"), "0 1");
    assert_eq!(told(&host, &other, "resolve q none"), "1 0");
    assert_eq!(told(&host, &other, "resolve  jobs"), "1 0", "an empty vm_id means one's own");
    assert_eq!(told(&host, &other, "enqueue 1 work"), "0");
    let ready = host.logs().into_iter().find(|line| line.message.starts_with("queue_ready(")).unwrap();
    assert_eq!(ready.thread, Thread::Worker(1), "workers start last");
    assert_eq!(answer(&host, "queue_ready: dequeue 1 -> "), r#"(0, "work")"#);
    assert_eq!(told(&host, &plugin, "dequeue 1"), r#"(7, "")"#);
    assert_eq!(told(&host, &plugin, "dequeue 9"), r#"(1, "")"#);
    assert_eq!(told(&host, &plugin, "enqueue 9 x"), number(Status::NotFound));
}

#[test]
fn items_wait_while_nobody_takes_them() {
    let host = Host::builder().build();
    let plugin = host.load(probe("configure: register jobs").vm_id("q")).unwrap();
    tell(&host, &plugin, "enqueue 1 a; enqueue 1 b");
    assert_eq!(host.queue("q", "jobs"), [b"a", b"b"]);
    let told = messages(&host).iter().filter(|line| line.starts_with("queue_ready(")).count();
    assert_eq!(told, 2, "one callback an item");
}
