//! Long products in pieces, so that whoever waits for the thread is let in between them.

use burn_tensor::Tensor;

use crate::device::DeviceKind;
use crate::error::Result;
use crate::ops::device_kind;
use crate::pace::Pace;

/// Multiplications of a piece on the CPU: some 20 ms of one thread.
const PIECE: usize = 400 << 20;

/// f over rows of all `inputs` at once, or, on the CPU where it takes long, over some rows after the other: a row takes `work`
/// multiplications. What f gives for a row must depend on that row alone.
pub async fn in_pieces<const N: usize>(
    inputs: [&Tensor<2>; N],
    work: usize,
    pace: &mut Pace,
    f: impl Fn([&Tensor<2>; N]) -> Result<Tensor<2>>,
) -> Result<Tensor<2>> {
    let rows = inputs.first().map_or(0, |input| input.dims()[0]);
    let at_once = (PIECE / work.max(1)).max(1);
    if rows <= at_once || inputs.first().is_none_or(|input| device_kind(*input) != DeviceKind::Cpu) {
        let result = f(inputs);
        pace.breathe().await;
        return result;
    }
    let mut pieces = vec![];
    for first in (0..rows).step_by(at_once) {
        let piece = inputs.map(|input| input.clone().slice([first..rows.min(first + at_once), 0..input.dims()[1]]));
        pieces.push(f(piece.each_ref())?);
        pace.breathe().await;
    }
    Ok(Tensor::cat(pieces, 0))
}

#[cfg(all(test, feature = "cpu", feature = "native"))]
mod tests {
    use super::*;
    use crate::device::Device;
    use crate::ops::read_floats;

    #[test]
    fn pieces_are_the_whole() {
        let device = Device::cpu();
        let x = Tensor::<1, burn_tensor::Int>::arange(0..35, &device.burn).float().reshape([7, 5]);
        let y = x.clone().mul_scalar(2.0);
        for work in [1, PIECE / 3, PIECE * 2] {
            let sum = |[x, y]: [&Tensor<2>; 2]| Ok(x.clone() + y.clone());
            let found = pollster::block_on(in_pieces([&x, &y], work, &mut Pace::new(), sum)).unwrap();
            let found = pollster::block_on(read_floats(found)).unwrap();
            assert_eq!(found, (0..35).map(|i| i as f32 * 3.0).collect::<Vec<_>>(), "{work}");
        }
    }
}
