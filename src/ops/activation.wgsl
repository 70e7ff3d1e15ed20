// ACTIVATION: the place of the name in ops::activation::Activation.
fn erf(x: f32) -> f32 {
    // Abramowitz and Stegun 7.1.26: at most 1.5e-7 off.
    let t = 1.0 / (1.0 + 0.3275911 * abs(x));
    let poly = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    return sign(x) * (1.0 - poly * exp(-x * x));
}

// tanh overflows to NaN on some drivers for large arguments.
fn tanh_safe(x: f32) -> f32 {
    return tanh(clamp(x, -20.0, 20.0));
}

fn activate(x: f32) -> f32 {
    if (ACTIVATION == 1u) { return max(x, 0.0); }
    if (ACTIVATION == 2u) { return 0.5 * x * (1.0 + erf(x * 0.70710678118)); }
    if (ACTIVATION == 3u) { return 0.5 * x * (1.0 + tanh_safe(0.7978845608 * (x + 0.044715 * x * x * x))); }
    if (ACTIVATION == 4u) { return x / (1.0 + exp(-1.702 * x)); }
    if (ACTIVATION == 5u) { return x / (1.0 + exp(-x)); }
    if (ACTIVATION == 6u) { return tanh_safe(x); }
    if (ACTIVATION == 7u) { return 1.0 / (1.0 + exp(-x)); }
    if (ACTIVATION == 8u) { return 1.0507009873 * select(1.6732632424 * (exp(x) - 1.0), x, x > 0.0); }
    return x;
}
