// The row of a table of biases by distance: of the key's position from the query's, no further than `reach` either way.
fn distance_at(key_position: u32, query_position: u32, reach: u32) -> u32 {
    let far = i32(reach);
    return u32(clamp(i32(key_position) - i32(query_position), -far, far) + far);
}
