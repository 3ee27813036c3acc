//! A part of a state that many states share: it is hashed once, and cloned by counting.

use std::hash::{Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use ahash::RandomState;

/// A value with its hash. Two states that differ in one member share all the others.
#[derive(Debug)]
pub struct Shared<T>(Arc<Hashed<T>>);

#[derive(Debug)]
struct Hashed<T> {
    hash: u64,
    value: T,
}

/// The hash of a value: the same in every run.
pub fn hash_of<T: Hash>(value: &T) -> u64 {
    const KEYS: [u64; 4] = [0x5b1d, 0xc0de, 0x2a17, 0x77f3];
    RandomState::with_seeds(KEYS[0], KEYS[1], KEYS[2], KEYS[3]).hash_one(value)
}

impl<T: Hash> Shared<T> {
    /// Shares a value.
    pub fn new(value: T) -> Self {
        let hash = hash_of(&value);
        Self(Arc::new(Hashed { hash, value }))
    }

    /// Its hash.
    pub fn hash_value(&self) -> u64 {
        self.0.hash
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.value
    }
}

impl<T> Hash for Shared<T> {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        hasher.write_u64(self.0.hash);
    }
}

impl<T: PartialEq> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || (self.0.hash == other.0.hash && self.0.value == other.0.value)
    }
}

impl<T: Eq> Eq for Shared<T> {}

/// A shared part while a state is made from another: it is cloned when it is first written to.
#[derive(Debug)]
pub enum Part<T> {
    /// As it was.
    Old(Shared<T>),
    /// Written to.
    New {
        /// What it was.
        old: Shared<T>,
        /// What it is.
        new: Box<T>,
    },
}

impl<T: Hash + PartialEq> Part<T> {
    /// A part of the state before.
    pub fn new(old: &Shared<T>) -> Self {
        Self::Old(old.clone())
    }

    /// The part of the state after: the old one, where it is equal.
    pub fn finish(self) -> Shared<T> {
        match self {
            Self::Old(old) => old,
            Self::New { old, new } if *old == *new => old,
            Self::New { new, .. } => Shared::new(*new),
        }
    }
}

impl<T> Deref for Part<T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Old(old) => old,
            Self::New { new, .. } => new,
        }
    }
}

impl<T: Clone> DerefMut for Part<T> {
    fn deref_mut(&mut self) -> &mut T {
        if let Self::Old(old) = self {
            let new = Box::new(T::clone(old));
            *self = Self::New {
                old: old.clone(),
                new,
            };
        }
        match self {
            Self::New { new, .. } => new,
            Self::Old(_) => unreachable!("it was just written to"),
        }
    }
}
