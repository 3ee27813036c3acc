//! A part of a state that very many states share: it is kept and hashed once, and copied as a reference.
//!
//! A part lives as long as the process, whichever thread has met it. An exploration keeps all that it has visited anyway, and there
//! are far fewer parts than states: what is copied, compared and hashed with each state are a few words. A part is one word where it is
//! shared, since a network has dozens of messages, and there are millions of networks.

use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::ops::{Deref, DerefMut};
use std::sync::{Mutex, PoisonError};

use ahash::RandomState;
use kv_core::{Replica, ShardRecord};
use nohash_hasher::IntMap;

use crate::ledger::Ledger;
use crate::network::{Envelope, Network};
use crate::service::Service;
use crate::state::Member;

/// A value that is kept once. Two of the same hash are taken for equal, as stateright takes whole states.
#[derive(Debug)]
pub struct Shared<T: 'static>(&'static Hashed<T>);

/// A value with its hash.
#[derive(Debug)]
pub struct Hashed<T> {
    hash: u64,
    value: T,
}

/// Something that is kept once.
pub trait Kept: Hash + Sized + 'static {
    /// Looks for the value of a hash, and keeps this one where there is none.
    fn keep(hash: u64, value: Box<Self>) -> &'static Hashed<Self>;
}

/// Values by their hashes.
type Known<T> = Mutex<IntMap<u64, &'static Hashed<T>>>;

/// In so many parts, so that threads seldom wait for each other.
const SHARDS: usize = 64;

macro_rules! kept {
    ($($part:ty),* $(,)?) => {$(
        impl Kept for $part {
            fn keep(hash: u64, value: Box<Self>) -> &'static Hashed<Self> {
                static KNOWN: [Known<$part>; SHARDS] =
                    [const { Mutex::new(IntMap::with_hasher(BuildHasherDefault::new())) }; SHARDS];
                // The lowest and the highest bits are those by which a map finds its places.
                let shard = &KNOWN[(hash >> 32) as usize % SHARDS];
                let mut known = shard.lock().unwrap_or_else(PoisonError::into_inner);
                let new = || &*Box::leak(Box::new(Hashed { hash, value: *value }));
                known.entry(hash).or_insert_with(new)
            }
        }
    )*};
}

kept!(
    Envelope,
    Ledger,
    Member,
    Network,
    Replica,
    Service,
    ShardRecord
);

/// The hash of a value: the same in every run.
pub fn hash_of<T: Hash>(value: &T) -> u64 {
    const KEYS: [u64; 4] = [0x5b1d, 0xc0de, 0x2a17, 0x77f3];
    RandomState::with_seeds(KEYS[0], KEYS[1], KEYS[2], KEYS[3]).hash_one(value)
}

impl<T: Kept> Shared<T> {
    /// Shares a value.
    pub fn new(value: T) -> Self {
        Self::of(Box::new(value))
    }

    /// Shares a value that is in a box already.
    pub fn of(value: Box<T>) -> Self {
        Self(T::keep(hash_of(&*value), value))
    }
}

impl<T> Shared<T> {
    /// Its hash.
    pub fn hash_value(&self) -> u64 {
        self.0.hash
    }
}

impl<T> Clone for Shared<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Shared<T> {}

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

impl<T> PartialEq for Shared<T> {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self.0, other.0)
    }
}

impl<T> Eq for Shared<T> {}

/// A part while a state is made from another: it is cloned when it is first written to.
#[derive(Debug)]
pub enum Part<'a, T: 'static> {
    /// As it was.
    Old(Shared<T>),
    /// As it is in a state that is in the making itself.
    Lent(&'a T),
    /// Written to.
    New(Box<T>),
}

impl<T> Part<'_, T> {
    /// The same part, to be written to in a turn.
    pub fn lend(&self) -> Part<'_, T> {
        match self {
            Self::Old(old) => Part::Old(*old),
            Self::Lent(lent) => Part::Lent(lent),
            Self::New(new) => Part::Lent(new),
        }
    }

    /// What was written, where it is another value than before.
    pub fn changed(self, before: &T) -> Option<Box<T>>
    where
        T: PartialEq,
    {
        match self {
            Self::New(new) if *new != *before => Some(new),
            _ => None,
        }
    }

    /// Takes over what was written.
    pub fn replace(&mut self, written: Option<Box<T>>) {
        if let Some(new) = written {
            *self = Self::New(new);
        }
    }

    /// Whether it was written to.
    pub fn is_new(&self) -> bool {
        matches!(self, Self::New(_))
    }
}

impl<T: Kept> Part<'static, T> {
    /// The part of the state after.
    pub fn finish(self) -> Shared<T> {
        match self {
            Self::Old(old) => old,
            Self::Lent(_) => unreachable!("only a turn borrows"),
            Self::New(new) => Shared::of(new),
        }
    }
}

impl<T> Deref for Part<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        match self {
            Self::Old(old) => old,
            Self::Lent(lent) => lent,
            Self::New(new) => new,
        }
    }
}

impl<T: Clone> DerefMut for Part<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        if !self.is_new() {
            *self = Self::New(Box::new(T::clone(self)));
        }
        match self {
            Self::New(new) => new,
            Self::Old(_) | Self::Lent(_) => unreachable!("it was just written to"),
        }
    }
}
