//! HF checkpoint folder → model folder.
