// Packed weights as single words.
fn word_at(at: u32) -> u32 { return words[at]; }
fn words4(at: u32) -> vec4<u32> { return vec4<u32>(words[at * 4u], words[at * 4u + 1u], words[at * 4u + 2u], words[at * 4u + 3u]); }
