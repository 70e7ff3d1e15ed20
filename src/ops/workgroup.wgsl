// What the lanes of a workgroup find out together, through its memory.
// Lanes that work on one set of outputs in linear_few.
const TEAM: u32 = 32u;
// Lanes that gather what all of them have put down.
const GATHERERS: u32 = 8u;

var<workgroup> put_down: array<vec4<f32>, WORKGROUP>;

fn sum_of_all(here: Here, value: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    put_down[here.lane] = value;
    workgroupBarrier();
    var sum = vec4<f32>(0.0);
    if (here.lane < GATHERERS) { for (var i = here.lane; i < WORKGROUP; i += GATHERERS) { sum += put_down[i]; } }
    workgroupBarrier();
    if (here.lane < GATHERERS) { put_down[here.lane] = sum; }
    workgroupBarrier();
    sum = vec4<f32>(0.0);
    for (var i = 0u; i < GATHERERS; i++) { sum += put_down[i]; }
    return sum;
}

fn max_of_all(here: Here, value: f32) -> f32 {
    workgroupBarrier();
    put_down[here.lane].x = value;
    workgroupBarrier();
    var highest = value;
    if (here.lane < GATHERERS) { for (var i = here.lane; i < WORKGROUP; i += GATHERERS) { highest = max(highest, put_down[i].x); } }
    workgroupBarrier();
    if (here.lane < GATHERERS) { put_down[here.lane].x = highest; }
    workgroupBarrier();
    highest = put_down[0].x;
    for (var i = 1u; i < GATHERERS; i++) { highest = max(highest, put_down[i].x); }
    return highest;
}

// Each team's sums are then found by `team_sum`.
fn sum_teams(here: Here, value: vec4<f32>) {
    workgroupBarrier();
    put_down[here.lane] = value;
    workgroupBarrier();
}

fn team_sum(here: Here, team: u32, place: u32) -> f32 {
    var sum = 0.0;
    for (var i = team * TEAM; i < (team + 1u) * TEAM; i++) { sum += put_down[i][place]; }
    return sum;
}
