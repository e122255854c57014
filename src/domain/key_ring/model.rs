//! Every state that small worlds can reach, visited one by one: the invariants of a key's life hold in all of
//! them, and none of the rules can be left out.
//!
//! | invariant | says | where |
//! |---|---|---|
//! | S1 | one active key at most | `life` |
//! | S2 | no token that a reporting process cannot verify | `life` |
//! | S3 | a living token's key stays with whoever verifies it | `life` |
//! | S4 | key-set versions are consecutive, chained, constant | `life`, `restore` |
//! | S5 | states move along the edges; final states stay | `life` |
//! | S6 | a token's key was active at the commit of its record | `mint` |
//! | S7 | nothing commits under a revoked key | `mint`, `restore` |
//! | S8 | a database behind an anchor mints nothing | `restore` |
//! | S9 | the floor never falls, nor passes the head | `life` |
//! | S10 | drain covers the longest life | `life` |
//! | S11 | one audit row for each change of state | `life` |
//! | L1 | with everyone reporting, an armed key becomes activatable | `life` |
//! | L2 | safe mode has an exit | `restore` |

mod life;
mod mint;
mod restore;
