//! A small map: pairs in a vector, sorted by key. For maps of at most some thousands of entries it is as fast as a tree,
//! and a fifth of a tree's code, which counts in a .wasm file.

use core::cmp::Ordering;

/// Pairs of key and value, each key once.
#[derive(Clone, Debug)]
pub struct Sorted<K, V>(Vec<(K, V)>);

impl<K, V> Default for Sorted<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Sorted<K, V> {
    /// A map of these pairs; of those with one key the last counts.
    pub fn of(pairs: impl Iterator<Item = (K, V)>) -> Self {
        let mut map = Self::default();
        for (key, value) in pairs {
            map.insert(key, value);
        }
        map
    }

    /// The value of a key.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.find(key).ok().and_then(|at| self.0.get(at)).map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let at = self.find(key).ok()?;
        self.0.get_mut(at).map(|(_, value)| value)
    }

    /// Sets the value of a key.
    pub fn insert(&mut self, key: K, value: V) {
        match self.find(&key) {
            Ok(at) => {
                if let Some(pair) = self.0.get_mut(at) {
                    pair.1 = value;
                }
            }
            Err(at) => self.0.insert(at, (key, value)),
        }
    }

    /// Takes a key out.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        self.find(key).ok().map(|at| self.0.remove(at).1)
    }

    /// Keeps the pairs of which `keeps` says so, in one pass.
    pub fn retain(&mut self, mut keeps: impl FnMut(&K, &mut V) -> bool) {
        self.0.retain_mut(|(key, value)| keeps(key, value));
    }

    /// All pairs, in the order of their keys.
    pub fn iter(&self) -> impl Iterator<Item = &(K, V)> {
        self.0.iter()
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The pair of the smallest key.
    pub fn first(&self) -> Option<&(K, V)> {
        self.0.first()
    }

    /// Where a key is, or is to come. One comparison a step: the standard library's search compares in two places, each of
    /// which every type of key pays for anew.
    fn find(&self, key: &K) -> Result<usize, usize> {
        let (mut from, mut to) = (0, self.0.len());
        while from < to {
            let middle = usize::midpoint(from, to);
            match self.0.get(middle).map(|(known, _)| known.cmp(key)) {
                Some(Ordering::Equal) => return Ok(middle),
                Some(Ordering::Less) => from = middle.saturating_add(1),
                _ => to = middle,
            }
        }
        Err(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_kept_once_and_in_order() {
        let mut map = Sorted::default();
        for key in [5, 1, 9, 5, 3] {
            map.insert(key, key * 10);
        }
        map.insert(5, 7);
        assert_eq!(map.iter().map(|(key, _)| *key).collect::<Vec<_>>(), [1, 3, 5, 9]);
        assert_eq!(map.get(&5), Some(&7));
        assert_eq!(map.get(&4), None);
        assert_eq!(map.remove(&1), Some(10));
        assert_eq!(map.remove(&1), None);
        assert_eq!(map.first(), Some(&(3, 30)));
        map.retain(|key, value| {
            *value += 1;
            *key != 5
        });
        assert_eq!(map.iter().copied().collect::<Vec<_>>(), [(3, 31), (9, 91)]);
    }
}
