//! Is each parameter's gradient what it should be?

use anyhow::Result;
use millrace_training::{NotFinite, TrainingError};

use crate::small::{batch, model, sequences, trainer};

/// Largest distance of two gradients, over the largest value there is in either.
fn apart(a: &[f32], b: &[f32]) -> f32 {
    let largest = a.iter().chain(b).fold(0.0f32, |most, x| most.max(x.abs()));
    let distance = a
        .iter()
        .zip(b)
        .fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
    // Below this a gradient is rounding: softmax does not see the keys' bias.
    distance / largest.max(1e-3)
}

#[test]
fn the_written_out_network_has_the_gradients_of_the_plain_one() -> Result<()> {
    let (folder, sequences) = (model()?, sequences());
    let (mut packed, layout) = trainer(folder.path(), false, 2)?;
    let (mut plain, _) = trainer(folder.path(), true, 1)?;
    let (loss, gradient) = packed.gradient(&batch(&sequences))?;
    let (expected_loss, expected) = plain.gradient(&batch(&sequences))?;
    assert!(
        (loss - expected_loss).abs() < 1e-5,
        "{loss} against {expected_loss}"
    );
    for place in layout.places() {
        let range = place.range.clone();
        let error = apart(&gradient[range.clone()], &expected[range]);
        assert!(error < 2e-4, "{}: {error}", place.name);
    }
    Ok(())
}

#[test]
fn computing_a_batch_twice_changes_nothing() -> Result<()> {
    let (folder, sequences) = (model()?, sequences());
    let (once, layout) = trainer(folder.path(), false, 2)?;
    let (twice, _) = trainer(folder.path(), false, 2)?;
    let (mut once, mut twice) = (once, twice.with_grad_cache(true));
    let (loss, gradient) = once.gradient(&batch(&sequences))?;
    let (other_loss, other) = twice.gradient(&batch(&sequences))?;
    assert_eq!(loss, other_loss);
    assert_eq!(gradient, other);
    assert!(twice.peak_bytes(1 << 20) < once.peak_bytes(1 << 20));
    assert_eq!(gradient.len(), layout.len());
    Ok(())
}

#[test]
fn every_gradient_is_that_of_finite_differences() -> Result<()> {
    let (folder, sequences) = (model()?, sequences());
    let (mut exact, layout) = trainer(folder.path(), false, 1)?;
    let (_, gradient) = exact.gradient(&batch(&sequences))?;
    // Along the gradient itself, tensor by tensor: the loss must fall by as much as it says, and
    // single numbers of f32 would drown in rounding.
    for place in layout.places() {
        let along = &gradient[place.range.clone()];
        let length = along
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt();
        if place.name.ends_with("key.bias") {
            // Softmax does not see what is added to all of a query's scores.
            assert!(length < 1e-4, "{}: {length}", place.name);
            continue;
        }
        assert!(length > 1e-5, "{} has no gradient", place.name);
        let step = 2e-3;
        let moved = |sign: f64| -> Result<f64> {
            let (mut trainer, _) = trainer(folder.path(), false, 1)?;
            let values = &mut trainer.parameters_mut()[place.range.clone()];
            for (value, along) in values.iter_mut().zip(along) {
                *value += (sign * step * f64::from(*along) / length) as f32;
            }
            Ok(f64::from(trainer.evaluate(&batch(&sequences))?))
        };
        let difference = (moved(1.0)? - moved(-1.0)?) / (2.0 * step);
        let error = (difference - length).abs() / length.max(0.05);
        assert!(
            error < 0.02,
            "{}: {difference} against {length}",
            place.name
        );
    }
    Ok(())
}

#[test]
fn every_parameter_moves() -> Result<()> {
    let (folder, sequences) = (model()?, sequences());
    let (mut trainer, layout) = trainer(folder.path(), false, 2)?;
    let before = trainer.parameters().to_vec();
    for step in 1..=3 {
        trainer.step(&batch(&sequences), step, 1e-3)?;
    }
    for place in layout.places() {
        let range = place.range.clone();
        let moved = before[range.clone()] != trainer.parameters()[range];
        assert!(moved, "{} stayed as it was", place.name);
    }
    Ok(())
}

#[test]
fn a_loss_that_is_not_a_number_changes_nothing() -> Result<()> {
    let (folder, sequences) = (model()?, sequences());
    let (mut trainer, layout) = trainer(folder.path(), false, 2)?;
    trainer.parameters_mut()[layout.places()[0].range.start + 5 * 16] = f32::NAN;
    let before = trainer.parameters().to_vec();
    let error = trainer.step(&batch(&sequences), 1, 1e-3).unwrap_err();
    assert!(
        matches!(error, TrainingError::Diverged(NotFinite::Loss(_))),
        "{error}"
    );
    let same = before.iter().zip(trainer.parameters());
    assert!(same.into_iter().all(|(a, b)| a.to_bits() == b.to_bits()));
    Ok(())
}
