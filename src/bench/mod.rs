//! What `npm run bench` holds the engine against: what the machine can do at all, and the same model's operations one by one
//! as Burn has them. It is exported from a wasm of its own (feature `workbench`), and checked natively like everything else.

pub mod context;
pub mod limits;
pub mod product;
#[cfg(feature = "cpu")]
pub mod unfused;
