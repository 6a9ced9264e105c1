//! What a run refuses, and what it leaves.

use anyhow::Result;
use millrace_training::dataset::Dataset;
use millrace_training::{DatasetError, Kept, NotFinite, TrainingError, TrainingOptions};

use crate::running::{Ground, run};
use crate::small;

#[tokio::test]
async fn another_architecture_and_another_tokenizer() -> Result<()> {
    let work = tempfile::tempdir()?;
    let data = work.path().join("data");
    small::dataset(&data, 0.0).await?;
    let out = work.path().join("model");
    let base = small::model()?;
    let tokenizer = base.path().join("tokenizer.json");
    std::fs::write(&tokenizer, small::tokenizer(80).to_string())?;
    let error = run(base.path(), &data, &out, &small::options(), false).unwrap_err();
    assert!(
        matches!(
            error,
            TrainingError::TokenizerMismatch {
                largest: 79,
                last: 63,
                ..
            }
        ),
        "{error}"
    );
    let config = base.path().join("config.json");
    let text = std::fs::read_to_string(&config)?.replace("\"bert\"", "\"roberta\"");
    std::fs::write(&config, text)?;
    let error = run(base.path(), &data, &out, &small::options(), false).unwrap_err();
    assert!(
        error.to_string().contains("model_type `roberta`"),
        "{error}"
    );
    assert!(!out.exists());
    Ok(())
}

#[tokio::test]
async fn options_that_can_not_be_followed() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.0).await?;
    let refused = |change: fn(&mut TrainingOptions)| {
        let mut options = small::options();
        change(&mut options);
        let out = work.path().join("model");
        run(base.path(), &data, &out, &options, false)
            .unwrap_err()
            .to_string()
    };
    assert!(refused(|o| o.batch = 0).contains("`batch` is 0"));
    assert!(refused(|o| o.max_tokens = 25).contains("3 to 24 tokens"));
    assert!(refused(|o| o.learning_rate = f64::NAN).contains("`learning_rate` is NaN"));
    assert!(refused(|o| o.dimensions = vec![16, 17]).contains("`dimensions` is 17"));
    assert!(refused(|o| o.warm_up = 1.5).contains("`warm_up` is 1.5"));
    assert!(refused(|o| o.patience = Some(0)).contains("`patience` is 0"));
    assert!(refused(|o| o.patience = Some(2)).contains("no dev split"));
    let alone = refused(|o| (o.batch, o.negatives) = (1, 0));
    assert!(alone.contains("`batch` is 1"), "{alone}");
    Ok(())
}

#[tokio::test]
async fn a_loss_that_is_not_a_number_keeps_the_last_checkpoint() -> Result<()> {
    let ground = Ground::new(0.0).await?;
    let out = ground.work.path().join("model");
    ground.cut_off(&out);
    // Planted where the run goes on from: the words, which lie first behind the header.
    let checkpoint = out.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&checkpoint)?;
    let header = u64::from_le_bytes(*bytes.first_chunk().unwrap()) as usize;
    for value in bytes[8 + header..][..4_096].as_chunks_mut::<4>().0 {
        *value = f32::NAN.to_le_bytes();
    }
    std::fs::write(&checkpoint, &bytes)?;
    let error = ground.run(&out, true).unwrap_err();
    let kept = Kept::Checkpoint {
        path: checkpoint.clone(),
        step: 6,
    };
    assert!(
        matches!(
            &error,
            TrainingError::NotFinite { step: 7, what: NotFinite::Loss(_), kept: found }
                if *found == kept
        ),
        "{error}"
    );
    let said = error.to_string();
    assert!(said.contains("before the step changed anything"), "{said}");
    assert!(said.contains("checkpoint of step 6 is kept"), "{said}");
    assert_eq!(std::fs::read(&checkpoint)?, bytes);
    assert!(!out.join("model").exists());
    Ok(())
}

#[tokio::test]
async fn a_moment_that_is_not_a_number_is_not_kept() -> Result<()> {
    let ground = Ground::new(0.0).await?;
    let out = ground.work.path().join("model");
    ground.cut_off(&out);
    // The last value of the file is a second moment: infinite, it holds its parameter where it is, and
    // no loss would ever tell.
    let checkpoint = out.join("checkpoint.safetensors");
    let mut bytes = std::fs::read(&checkpoint)?;
    *bytes.last_chunk_mut().unwrap() = f32::INFINITY.to_le_bytes();
    std::fs::write(&checkpoint, &bytes)?;
    let error = ground.run(&out, true).unwrap_err();
    assert!(
        matches!(
            &error,
            TrainingError::NotFinite {
                step: 9,
                what: NotFinite::Moment,
                ..
            }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("before any of it was kept"),
        "{error}"
    );
    assert_eq!(std::fs::read(&checkpoint)?, bytes);
    Ok(())
}

#[tokio::test]
async fn a_model_that_is_no_runs_is_not_written_over() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.0).await?;
    let out = work.path().join("mine");
    let weights = out.join("mine/model.safetensors");
    std::fs::create_dir_all(out.join("mine"))?;
    std::fs::write(&weights, "made elsewhere")?;
    let error = run(base.path(), &data, &out, &small::options(), false).unwrap_err();
    assert!(
        matches!(error, TrainingError::ModelExists { .. }),
        "{error}"
    );
    assert_eq!(std::fs::read_to_string(&weights)?, "made elsewhere");
    assert!(!out.join("run.json").exists());
    Ok(())
}

#[tokio::test]
async fn a_run_is_not_mixed_up_with_another() -> Result<()> {
    let (base, work) = (small::model()?, tempfile::tempdir()?);
    let data = work.path().join("data");
    small::dataset(&data, 0.0).await?;
    let out = work.path().join("model");
    let options = TrainingOptions {
        epochs: 1,
        ..small::options()
    };
    let nothing = run(base.path(), &data, &out, &options, true).unwrap_err();
    assert!(
        matches!(nothing, TrainingError::NothingToResume { .. }),
        "{nothing}"
    );
    run(base.path(), &data, &out, &options, false)?;
    let exists = run(base.path(), &data, &out, &options, false).unwrap_err();
    assert!(
        matches!(exists, TrainingError::RunExists { .. }),
        "{exists}"
    );

    let changed = TrainingOptions {
        batch: 5,
        ..options.clone()
    };
    let error = run(base.path(), &data, &out, &changed, true).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("began with `batch` 6, this is 5"),
        "{error}"
    );
    let other = work.path().join("other");
    small::dataset(&other, 0.3).await?;
    let error = run(base.path(), &other, &out, &options, true).unwrap_err();
    assert!(
        error.to_string().contains("began with the dataset"),
        "{error}"
    );

    let identity = out.join("run.json");
    let began = std::fs::read_to_string(&identity)?;
    std::fs::write(&identity, began.replace("\"cpu\"", "\"cuda\""))?;
    let error = run(base.path(), &data, &out, &options, true).unwrap_err();
    assert!(
        error.to_string().contains("the device cuda, this is cpu"),
        "{error}"
    );
    std::fs::write(&identity, began)?;

    let checkpoint = out.join("checkpoint.safetensors");
    let bytes = std::fs::read(&checkpoint)?;
    std::fs::write(&checkpoint, &bytes[..bytes.len() / 2])?;
    let error = run(base.path(), &data, &out, &options, true).unwrap_err();
    assert!(matches!(error, TrainingError::Checkpoint { .. }), "{error}");
    Ok(())
}

#[test]
fn no_dataset() {
    let error = Dataset::read(std::path::Path::new("/nowhere/at/all")).unwrap_err();
    assert!(matches!(error, DatasetError::Read { .. }), "{error}");
}
