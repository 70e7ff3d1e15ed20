// The K highest of a row, or of each piece of 2048 of it, the highest first; of equal values the lowest place is the higher. Each
// thread holds eight values; K times the workgroup finds the highest of what is left. LAST: the values are those that pieces
// have found, their places are `places_found`; less than none is nothing. info: values of a row, pieces of a row.
const PER_THREAD: u32 = 8u;
const NOTHING: i32 = -1;

var<workgroup> values: array<f32, WORKGROUP>;
var<workgroup> places: array<i32, WORKGROUP>;

fn is_higher(value: f32, place: i32, than_value: f32, than_place: i32) -> bool {
    if (place == NOTHING) { return false; }
    return than_place == NOTHING || value > than_value || (value == than_value && place < than_place);
}

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let lane = here.lane;
    let width = info[0];
    let pieces = info[1];
    let index = workgroup_within(here);
    let start = index / pieces * width;
    let first = index % pieces * (PER_THREAD * WORKGROUP) + lane;
    var own = array<f32, PER_THREAD>();
    var own_places = array<i32, PER_THREAD>();
    for (var i = 0u; i < PER_THREAD; i++) {
        let at = first + i * WORKGROUP;
        own_places[i] = NOTHING;
        if (at < width) {
            own[i] = logits[start + at];
            if (LAST == 1u) { own_places[i] = i32(places_found[start + at]); } else { own_places[i] = i32(at); }
        }
    }
    for (var k = 0u; k < K; k++) {
        var value = 0.0;
        var place = NOTHING;
        for (var i = 0u; i < PER_THREAD; i++) {
            if (is_higher(own[i], own_places[i], value, place)) {
                value = own[i];
                place = own_places[i];
            }
        }
        values[lane] = value;
        places[lane] = place;
        workgroupBarrier();
        for (var half = WORKGROUP / 2u; half > 0u; half /= 2u) {
            if (lane < half && is_higher(values[lane + half], places[lane + half], values[lane], places[lane])) {
                values[lane] = values[lane + half];
                places[lane] = places[lane + half];
            }
            workgroupBarrier();
        }
        let taken = places[0];
        if (lane == 0u) {
            found[index * K + k] = values[0];
            best[index * K + k] = taken;
        }
        for (var i = 0u; i < PER_THREAD; i++) {
            if (own_places[i] == taken) { own_places[i] = NOTHING; }
        }
        workgroupBarrier();
    }
}
