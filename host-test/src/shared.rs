//! What all VMs of one host share: shared data and shared queues, with the semantics of Envoy's process-wide store. One
//! thread at a time touches it; races are made by interleaving whole host calls, never inside one.

use std::collections::{BTreeMap, VecDeque};

use crate::abi::Status;
use crate::thread::Thread;

/// Shared data and queues of a host.
#[derive(Debug)]
pub(crate) struct SharedStore {
    /// By `vm_id`.
    values: BTreeMap<String, Values>,
    next_cas: u32,
    queues: BTreeMap<u32, Queue>,
}

/// Values and their compare-and-swap numbers by key.
type Values = BTreeMap<Vec<u8>, (Vec<u8>, u32)>;

#[derive(Debug)]
struct Queue {
    vm_id: String,
    name: Vec<u8>,
    items: VecDeque<Vec<u8>>,
    consumer: Consumer,
}

/// The VM and root context that is told of new items: the last one that registered the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Consumer {
    pub(crate) thread: Thread,
    pub(crate) vm: usize,
    pub(crate) context: u32,
}

impl SharedStore {
    pub(crate) fn new() -> Self {
        // Zero means "no compare-and-swap", so numbers start at one.
        Self { values: BTreeMap::new(), next_cas: 1, queues: BTreeMap::new() }
    }

    pub(crate) fn get(&self, vm_id: &str, key: &[u8]) -> Result<(Vec<u8>, u32), Status> {
        let values = self.values.get(vm_id).ok_or(Status::NotFound)?;
        values.get(key).cloned().ok_or(Status::NotFound)
    }

    /// Stores unless the key is present with another number than a non-zero `cas`. A missing key takes any `cas`.
    pub(crate) fn set(&mut self, vm_id: &str, key: &[u8], value: Vec<u8>, cas: u32) -> Result<(), Status> {
        let values = self.values.entry(vm_id.to_owned()).or_default();
        if let Some((_, present)) = values.get(key)
            && cas != 0
            && cas != *present
        {
            return Err(Status::CasMismatch);
        }
        values.insert(key.to_vec(), (value, self.next_cas));
        self.next_cas = self.next_cas.checked_add(1).unwrap_or(1);
        Ok(())
    }

    /// Forgets the data of a `vm_id`, as Envoy does when its last VM goes. Queues stay.
    pub(crate) fn drop_vm_id(&mut self, vm_id: &str) {
        self.values.remove(vm_id);
    }

    pub(crate) fn snapshot(&self, vm_id: &str) -> SharedData {
        let entries = self.values.get(vm_id).cloned().unwrap_or_default();
        SharedData { entries }
    }

    pub(crate) fn register_queue(&mut self, vm_id: &str, name: &[u8], consumer: Consumer) -> u32 {
        if let Some(token) = self.resolve_queue(vm_id, name) {
            if let Some(queue) = self.queues.get_mut(&token) {
                queue.consumer = consumer;
            }
            return token;
        }
        let token = self.queues.keys().next_back().map_or(1, |last| last + 1);
        self.queues
            .insert(token, Queue { vm_id: vm_id.to_owned(), name: name.to_vec(), items: VecDeque::new(), consumer });
        token
    }

    pub(crate) fn resolve_queue(&self, vm_id: &str, name: &[u8]) -> Option<u32> {
        self.queues.iter().find(|(_, queue)| queue.vm_id == vm_id && queue.name == name).map(|(token, _)| *token)
    }

    /// Adds an item and says who is to be told.
    pub(crate) fn enqueue(&mut self, token: u32, item: Vec<u8>) -> Result<Consumer, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.push_back(item);
        Ok(queue.consumer.clone())
    }

    pub(crate) fn dequeue(&mut self, token: u32) -> Result<Vec<u8>, Status> {
        let queue = self.queues.get_mut(&token).ok_or(Status::NotFound)?;
        queue.items.pop_front().ok_or(Status::Empty)
    }

    pub(crate) fn queue_items(&self, vm_id: &str, name: &[u8]) -> Vec<Vec<u8>> {
        let queue = self.resolve_queue(vm_id, name).and_then(|token| self.queues.get(&token));
        queue.map_or_else(Vec::new, |queue| queue.items.iter().cloned().collect())
    }
}

/// The shared data of one `vm_id` as it was when asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedData {
    entries: Values,
}

impl SharedData {
    /// How many keys there are; a removed key still counts, as in the real host.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Bytes of all keys and values, without the host's own overhead.
    pub fn bytes(&self) -> usize {
        let sizes = self.entries.iter().map(|(key, (value, _))| key.len() + value.len());
        sizes.sum()
    }

    /// The value of a key.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Option<&[u8]> {
        self.entries.get(key.as_ref()).map(|(value, _)| value.as_slice())
    }

    /// The compare-and-swap number of a key.
    pub fn cas(&self, key: impl AsRef<[u8]>) -> Option<u32> {
        self.entries.get(key.as_ref()).map(|(_, cas)| *cas)
    }

    /// All keys and values, ordered by key.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.entries.iter().map(|(key, (value, _))| (key.as_slice(), value.as_slice()))
    }
}
