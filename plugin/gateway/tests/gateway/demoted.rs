//! A master that was demoted and not told its clients: what it refuses is asked of the new one, batches and transactions too.
//! Not here: Sentinels that choose (`sentinel`); here they say what the test wants, and one of three never says anything.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
use std::time::Duration;

use serde_json::{Value, json};

use crate::http::{Client, Gateway};
use crate::process::wait_for;
use crate::servers::{Redis, text};
use crate::skip;

const COUNT: &str = "return redis.call('INCR', KEYS[1])";

/// Something that answers every question with the address of the master, as a Sentinel does the only one it is asked here;
/// its own address.
fn sentinel(named: &Arc<AtomicU16>) -> String {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let named = Arc::clone(named);
    let answer = move |mut stream: TcpStream| {
        while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {
            let port = named.load(Relaxed).to_string();
            let reply = format!("*2\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n", port.len());
            if stream.write_all(reply.as_bytes()).is_err() {
                break;
            }
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let answer = answer.clone();
            std::thread::spawn(move || answer(stream));
        }
    });
    address
}

/// Makes `replica` one of `master`; its callers keep their connections.
fn follow(replica: &Redis, master: &Redis) {
    replica.ask(&["REPLICAOF", "127.0.0.1", &master.port.to_string()]);
    wait_for("a replica in step", Duration::from_secs(20), || {
        let info = text(&replica.try_ask(&["INFO", "replication"])?);
        info.contains("master_link_status:up").then_some(())
    });
}

/// Makes `new` the master of `old`, and says so.
fn swap(old: &Redis, new: &Redis, named: &AtomicU16) {
    // What the old one took last may still be on its way.
    let written = old.ask(&["GET", "n"]);
    wait_for("the last write", Duration::from_secs(5), || (new.try_ask(&["GET", "n"])? == written).then_some(()));
    new.ask(&["REPLICAOF", "NO", "ONE"]);
    follow(old, new);
    named.store(new.port, Relaxed);
}

/// What `commands` are answered at `path`, on the first try.
fn answers(client: &mut Client, path: &str, commands: &Value) -> Value {
    let response = client.post(path, commands);
    assert_eq!(response.status, 200, "{path}: {response:?}");
    response.json()
}

#[test]
fn what_a_demoted_master_refuses_is_asked_of_the_new_one() {
    if !skip::has("demoted master", &["redis-server"]) {
        return;
    }
    let server = || Redis::start(&["--repl-diskless-sync-delay", "0"]);
    let (one, other) = (server(), server());
    follow(&other, &one);
    let named = Arc::new(AtomicU16::new(one.port));
    // Connections to it are taken by the kernel.
    let mute = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let url = format!("sentinel://{},{},{}/0", mute.local_addr().unwrap(), sentinel(&named), sentinel(&named));
    // Less than the gateway gives a Sentinel: nobody may wait for the mute one.
    let gateway = Gateway::start(&url, &["--allow-scripts", "--threads", "1", "--timeout-ms", "450"]);
    let mut client = gateway.client();
    let commands = json!([["INCR", "n"], ["GET", "n"], ["EVAL", COUNT, 1, "n"], ["INCR", "n"]]);
    let first = answers(&mut client, "/multi-exec", &commands);
    assert_eq!(first, json!([{"result": 1}, {"result": "1"}, {"result": 2}, {"result": 3}]));

    swap(&one, &other, &named);
    let queued = answers(&mut client, "/multi-exec", &commands);
    assert_eq!(queued, json!([{"result": 4}, {"result": "4"}, {"result": 5}, {"result": 6}]));

    // A script is refused when it runs, not when it is queued.
    swap(&other, &one, &named);
    let inside = answers(&mut client, "/multi-exec", &json!([["GET", "n"], ["EVAL", COUNT, 1, "n"]]));
    assert_eq!(inside, json!([{"result": "6"}, {"result": 7}]));

    // The script, which the other server has forgotten meanwhile, and what comes before and after it; the read stays where
    // it was answered.
    swap(&one, &other, &named);
    other.ask(&["SCRIPT", "FLUSH"]);
    let batch = answers(&mut client, "/pipeline", &commands);
    assert_eq!(batch[1], json!({"result": "7"}));
    let mut counted: Vec<i64> = [0, 2, 3].iter().map(|at| batch[*at]["result"].as_i64().unwrap()).collect();
    counted.sort_unstable();
    assert_eq!(counted, [8, 9, 10], "{batch}");
    assert_eq!(text(&other.ask(&["GET", "n"])), "10", "each ran once");
}
