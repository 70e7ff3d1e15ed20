//! Model folders from the network or the cache to `weights`.
