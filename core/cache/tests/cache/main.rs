//! The store as its users see it: one binary, one module per promise.

mod damage; // flipped bits and cut files: a miss, never wrong bytes
mod elsewhere; // rows of another place, and reads that are checked every time
mod kill; // processes killed while they write
mod lock; // one process per folder
mod retain; // dropping and compacting
mod round_trip; // what goes in comes out, also after a reopen
mod rows; // rows under keys, in chunks
mod threads; // many writers and readers at once
mod util;
