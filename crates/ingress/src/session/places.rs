//! How many sessions a microVM has at a time.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

/// The most.
pub(crate) const MAX_SESSIONS: usize = 64;

/// Counts them, for each microVM.
#[derive(Debug, Clone, Default)]
pub(crate) struct Places(Arc<Mutex<HashMap<String, usize>>>);

/// One session; its place is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    places: Places,
    microvm: String,
}

impl Places {
    /// `None`: there are [`MAX_SESSIONS`].
    pub(crate) fn take(&self, microvm: &str) -> Option<Place> {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let count = counts.entry(microvm.to_owned()).or_default();
        if *count >= MAX_SESSIONS {
            return None;
        }
        *count += 1;
        Some(Place { places: self.clone(), microvm: microvm.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut counts = self.places.0.lock().unwrap_or_else(PoisonError::into_inner);
        match counts.get_mut(&self.microvm) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(counts.remove(&self.microvm)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_microvm_has_its_own_and_gets_them_back() {
        let places = Places::default();
        let mut taken: Vec<_> = (0..MAX_SESSIONS).map(|_| places.take("a").expect("free")).collect();
        assert!(places.take("a").is_none());
        let other = places.take("b").expect("free");
        taken.pop();
        assert!(places.take("a").is_some());
        drop((taken, other));
        assert!(places.0.lock().expect("lock").is_empty(), "nothing is remembered");
    }
}
