// A workgroup a row, or one of the pieces of a row; of equal values the lowest place wins, and stands beside its value. LAST: the
// values are those of pieces, their places are `places_found`. info: values of a row, pieces of a row.
var<workgroup> values: array<f32, WORKGROUP>;
var<workgroup> places: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP, 1, 1)
fn main(here: Here) {
    let lane = here.lane;
    let width = info[0];
    let pieces = info[1];
    let index = workgroup_within(here);
    let start = index / pieces * width;
    let length = (width + pieces - 1u) / pieces;
    let begin = min(index % pieces * length, width - 1u);
    let end = min(begin + length, width);
    var place = min(begin + lane, end - 1u);
    var value = logits[start + place];
    for (var i = begin + lane + WORKGROUP; i < end; i += WORKGROUP) {
        let candidate = logits[start + i];
        if (candidate > value) {
            value = candidate;
            place = i;
        }
    }
    values[lane] = value;
    places[lane] = place;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
        if (lane < width) {
            let other = lane + width;
            if (values[other] > values[lane] || (values[other] == values[lane] && places[other] < places[lane])) {
                values[lane] = values[other];
                places[lane] = places[other];
            }
        }
        workgroupBarrier();
    }
    if (lane == 0u) {
        if (LAST == 1u) { best[index] = i32(places_found[start + places[0]]); } else { best[index] = i32(places[0]); }
        found[index] = values[0];
    }
}
