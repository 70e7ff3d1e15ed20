//! What JavaScript calls: wasm-bindgen shells without logic of their own.
